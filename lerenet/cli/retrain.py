"""``lerenet retrain``: the flow of the same name, started from a shell; Prefect is imported only once it runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from lerenet.cli.terminal import user


def retrain_command(
    jobs: Annotated[int, typer.Option(min=1, help="Stages at once.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Go on when nothing changed.")] = False,
    pull: Annotated[bool, typer.Option(help="Fetch the data from the DVC remote first.")] = True,
    operator: Annotated[str, typer.Option(help="Who asks, for the ledger; your user name when empty.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another retraining's end.")] = False,
    dry: Annotated[bool, typer.Option("--dry", help="Say what would be done; change nothing.")] = False,
    fold: Annotated[list[str] | None, typer.Option(help="Only this fold's stages; repeat it.")] = None,
    runner: Annotated[str, typer.Option(help="local, dask, or a Dask scheduler's address.")] = "local",
    accept_drift: Annotated[
        bool, typer.Option("--accept-drift", help="Go on with images that shifted.")
    ] = False,
) -> None:
    """Bring the champion up to date with data and code, if the gate agrees."""
    flags = {
        "--force": force,
        "--wait": wait,
        "--dry": dry,
        "--accept-drift": accept_drift,
        "--no-pull": not pull,
    }
    words = ["--jobs", str(jobs), "--operator", operator or user(), "--runner", runner]
    words += [flag for flag, given in flags.items() if given]
    words += [word for name in fold or () for word in ("--fold", name)]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "flows.retrain", *words])
