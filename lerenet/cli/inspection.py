"""How ``lerenet inspect`` is told what to measure, and how it answers: a table, JSON, a status for a gateway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lerenet.cli.terminal import console, print_json

if TYPE_CHECKING:
    from lerenet.predict.inspected import Inspected

UNREAD, BAD, LOOK = 1, 3, 4  # statuses; 2 is an error's, as for every command

RulesFile = Annotated[
    Path | None, typer.Option("--rules", metavar="FILE", help="YAML file of what defects mean.")
]
CamerasFile = Annotated[
    Path | None,
    typer.Option("--cameras", metavar="FILE", help="YAML file of the cameras that photos come from."),
]
Scale = Annotated[
    float | None, typer.Option(help="Side of a pixel on the part; sizes are given in millimetres, too.")
]
Closing = Annotated[
    int | None, typer.Option(help="Radius in pixels; marks up to twice as far apart are one defect.")
]
Smallest = Annotated[int | None, typer.Option(help="Pixels; marks that have fewer are no defect.")]
Connectivity = Annotated[
    int | None, typer.Option(help="8: marks that meet at a corner are one defect; 4: they are two.")
]


def status(rows: Sequence[Inspected], asked: bool) -> int:
    """The status that a call ends with: 0, or what is worst.

    Args:
        asked: whether decisions count; else only whether photos could be read.
    """
    decisions = {row.decision for row in rows}
    if asked and "NG" in decisions:
        return BAD
    if any(row.error for row in rows):
        return UNREAD
    return LOOK if asked and "REVIEW" in decisions else 0


def print_inspection(rows: Sequence[Inspected]) -> None:
    """Print every row as JSON."""
    print_json({"images": [asdict(row) for row in rows]})


def show(rows: Sequence[Inspected], out: Path, decided: bool = False) -> None:
    """Print one line a photo.

    Args:
        decided: show decision and reason, for there were rules.
    """
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{len(rows)} photos", title_justify="left")
    for name in ("photo", "verdict", "what", *(("decision", "reason") if decided else ())):
        table.add_column(name, overflow="fold")
    for row in rows:
        called = [one for one in row.classes if one.verdict in ("NG", "REVIEW") or one.share > 0]
        what = row.error or ", ".join(f"{one.name} {one.verdict}, {one.share:.2%}" for one in called)
        decision = (_coloured(row.decision), escape(row.reason)) if decided else ()
        table.add_row(escape(Path(row.image).name), _coloured(row.verdict), escape(what), *decision)
    console().print(table)
    typer.echo(f"written to {out}")


def _coloured(verdict: str) -> str:
    from lerenet.enrolment.inspect import NONE

    colours = {"NG": "bold red", "REVIEW": "yellow", "OK": "green", NONE: "yellow"}
    colour = colours.get(verdict, "")
    return f"[{colour}]{verdict}[/]" if colour else verdict
