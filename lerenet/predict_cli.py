"""``lerenet predict``: arguments, the table at the end. Nothing heavy is imported at the top."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lerenet.errors import DataError

if TYPE_CHECKING:
    from lerenet.predict import Predictions

Support = Annotated[
    list[Path],
    typer.Option(
        "--support", "-s", metavar="IMG MASK", help="Image and mask of a marked defect; 1 to 5 pairs.",
    ),
]  # fmt: skip
Query = Annotated[list[Path], typer.Option("--query", "-q", metavar="IMG…", help="Images to segment.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for masks and tables.")]
Model = Annotated[
    str, typer.Option("--model", "-m", help="champion, a version number, matching, or a model folder.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]


def predict_command(
    support: Support, query: Query, out: Out, model: Model = "champion", as_json: Json = False
) -> None:
    """Segment images by one to five marked examples of the defect.

    lerenet predict --support a.jpg a_mask.png --query parts/*.jpg --out found
    """
    pairs = pair_up(support)
    from lerenet.predict import predict

    found = predict(pairs, query, out, model)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        print_table(found, out)


def pair_up(paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """(image, mask) pairs of the values of ``--support``.

    Raises:
        DataError: a value is left without its mask.
    """
    if len(paths) % 2:
        raise DataError(
            f"--support: {len(paths)} files, the last one, {paths[-1]}, has no mask",
            "write --support IMAGE MASK, for each support",
        )
    return list(zip(paths[::2], paths[1::2], strict=True))


def print_table(found: Predictions, out: Path) -> None:
    """Print one line a query, and the warnings."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(title=f"{len(found.predictions)} images, model {escape(found.model)}", title_justify="left")
    table.add_column("query", overflow="fold")
    table.add_column("mask", overflow="fold")
    for name in ("foreground", "confidence", "ms"):
        table.add_column(name, justify="right")
    for row in found.predictions:
        numbers = (f"{row.foreground:.2%}", f"{row.confidence:.2f}", f"{row.milliseconds:.0f}")
        table.add_row(escape(Path(row.query).name), escape(row.mask), *numbers)
    console.print(table)
    console.print(f"written to {escape(str(out))}", soft_wrap=True)
