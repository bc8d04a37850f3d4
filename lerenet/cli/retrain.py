"""``lerenet retrain``: the flow of the same name, started from a shell; Prefect is imported only once it runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

Jobs = Annotated[int, typer.Option(min=1, help="Stages at once.")]
Force = Annotated[bool, typer.Option("--force", help="Go on when nothing changed.")]
Pull = Annotated[bool, typer.Option(help="Fetch the data from the DVC remote first.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for another retraining's end.")]
Dry = Annotated[bool, typer.Option("--dry", help="Say what would be done; change nothing.")]
Folds = Annotated[list[str] | None, typer.Option("--fold", help="Only this fold's stages; repeat it.")]
Runner = Annotated[str, typer.Option(help="local, dask, or a Dask scheduler's address.")]
AcceptDrift = Annotated[bool, typer.Option("--accept-drift", help="Go on with images that shifted.")]


def retrain_command(
    jobs: Jobs = 1,
    force: Force = False,
    pull: Pull = True,
    operator: Annotated[str, typer.Option(help="Who asks, for the ledger; your user name when empty.")] = "",
    wait: Wait = False,
    dry: Dry = False,
    folds: Folds = None,
    runner: Runner = "local",
    accept_drift: AcceptDrift = False,
) -> None:
    """Bring the champion up to date with data and code, if the gate agrees."""
    flags = {
        "--force": force,
        "--wait": wait,
        "--dry": dry,
        "--accept-drift": accept_drift,
        "--no-pull": not pull,
    }
    words = ["--jobs", str(jobs), "--operator", operator, "--runner", runner]
    words += [flag for flag, given in flags.items() if given]
    words += [word for name in folds or () for word in ("--fold", name)]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "flows.retrain", *words])
