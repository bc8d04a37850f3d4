"""``lerenet prune``: the housekeeping of `flows.prune`, started from a shell."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

Keep = Annotated[
    int, typer.Option(min=0, help="Newest versions that stay; champion and predecessor stay anyway.")
]
Days = Annotated[float, typer.Option(min=0, help="Age up to which runs and entries of the caches stay.")]
Yes = Annotated[bool, typer.Option("--yes", help="Remove it; otherwise it is only said.")]


def prune_command(keep: Keep = 5, days: Days = 30, yes: Yes = False) -> None:
    """Remove versions, runs, cached features and data that nobody needs any more; first say what."""
    sys.stdout.flush()
    words = ["--keep", str(keep), "--days", str(days), *(["--yes"] if yes else [])]
    os.execv(sys.executable, [sys.executable, "-m", "flows.prune", *words])
