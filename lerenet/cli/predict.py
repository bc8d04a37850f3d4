"""``lerenet predict``: arguments, the table at the end. Nothing heavy is imported at the top."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lerenet.cli.terminal import console
from lerenet.errors import DataError
from lerenet.files import shown

if TYPE_CHECKING:
    from lerenet.predict import Predictions

INTERRUPTED = 130  # a shell's status of what Ctrl-C ended
TOLD = 10  # failed queries named on standard error

Support = Annotated[
    list[Path],
    typer.Option(
        "--support", "-s", metavar="IMG MASK", help="Image and mask of a marked defect; 1 to 5 images.",
    ),
]  # fmt: skip
Query = Annotated[
    list[Path], typer.Option("--query", "-q", metavar="IMG…", help="Images to segment, or their folder.")
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for masks and tables.")]
Model = Annotated[
    str, typer.Option("--model", "-m", help="champion, a version number, matching, or a model folder.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
Label = Annotated[
    str, typer.Option(help="The defect in a mask of several labels: a number, #rrggbb, or any.")
]
Ignore = Annotated[str, typer.Option(help="A label of the mask that is read as background.")]
Inverted = Annotated[bool, typer.Option("--inverted", help="The defect is black in the mask.")]
DrawnOn = Annotated[str, typer.Option(metavar="raw|upright", help="Pixels that masks of turned photos fit.")]
Bits = Annotated[
    int, typer.Option(help="Bits that the camera uses of 16-bit images, 8 to 16; 0: by the values.")
]

Formats = Annotated[
    list[str] | None,
    typer.Option("--format", "-f", help="Write the masks for other tools, too: coco, labelme, label-studio."),
]


def predict_command(
    support: Support,
    query: Query,
    out: Out,
    model: Model = "champion",
    formats: Formats = None,
    as_json: Json = False,
    label: Label = "",
    ignore: Ignore = "",
    inverted: Inverted = False,
    drawn_on: DrawnOn = "",
    bits: Bits = 0,
) -> None:
    """Segment images by one to five marked examples of the defect.

    lerenet predict --support a.jpg a_mask.png --query parts/*.jpg --out found

    Interrupted, the same command goes on. Status 1: some queries could not be read.
    """
    pairs = pair_up(support)
    try:
        from lerenet.data.reading import Reading
        from lerenet.predict import predict

        reading = Reading(bits, label, ignore, inverted, drawn_on)
        predictions = predict(pairs, query, out, model, reading=reading, formats=formats or (), show=True)
    except KeyboardInterrupt as stopped:
        typer.echo(str(stopped) or "stopped before any work", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        typer.echo(json.dumps(asdict(predictions), indent=2))
    else:
        print_table(predictions, out)
    _tell_failed(predictions, out)


def pair_up(paths: Sequence[Path], option: str = "--support") -> list[tuple[Path, Path]]:
    """(image, mask) pairs of the values of an option.

    Raises:
        DataError: a value is left without its mask.
    """
    if len(paths) % 2:
        raise DataError(
            f"{option}: {len(paths)} files, the last one, {shown(paths[-1])}, has no mask",
            f"write {option} IMAGE MASK, for each image",
        )
    return list(zip(paths[::2], paths[1::2], strict=True))


def print_table(predictions: Predictions, out: Path) -> None:
    """Print one line a query."""
    from rich.markup import escape
    from rich.table import Table

    screen = console()
    table = Table(
        title=f"{len(predictions.predictions)} images, model {escape(predictions.model)}",
        title_justify="left",
    )
    table.add_column("query", overflow="fold")
    table.add_column("mask", overflow="fold")
    for name in ("foreground", "confidence", "ms"):
        table.add_column(name, justify="right")
    for row in predictions.predictions:
        numbers = (f"{row.foreground:.2%}", f"{row.confidence:.2f}", f"{row.milliseconds:.0f}")
        cells = (row.mask, *numbers) if not row.error else ("none, see below", "", "", "")
        table.add_row(escape(Path(row.query).name), *map(escape, cells))
    screen.print(table)
    screen.print(f"written to {escape(shown(out))}", soft_wrap=True)


def _tell_failed(predictions: Predictions, out: Path) -> None:
    """Name the queries without a mask on standard error, and end with status 1; none: return."""
    if not (failed := predictions.failed):
        return
    for row in failed[:TOLD]:
        typer.echo(row.error, err=True)
    count = f"{len(failed)} of {len(predictions.predictions)} queries have no mask"
    typer.echo(f"{count}; each reason is in {shown(out / 'predictions.csv')}", err=True)
    raise typer.Exit(1)
