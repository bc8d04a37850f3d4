"""Housekeeping: what nobody needs any more goes from MLflow, from the caches and from DVC's cache.

``python -m flows.prune`` says what would go; with ``--yes``, and as a flow, it goes. Prefect forgets old runs by itself
(`flows.services.standing`), and logs are cut by what writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from prefect import flow
from prefect.states import Cancelled, Completed

from flows.data import collect_garbage, garbage
from flows.dvc import refuse_inside_dvc
from flows.tabulate import publish
from flows.turns import one_at_a_time
from lerenet import layout
from lerenet.cli.prune import Days, Keep, Yes
from lerenet.cli.terminal import console, run_app
from lerenet.errors import LerenetError
from lerenet.params import load_params
from lerenet.progress import progress
from lerenet.registry import caches
from lerenet.registry import prune as registry

BUSY = "a retraining runs"


@dataclass(frozen=True)
class Plan:
    """What goes: of MLflow, of the caches (paths), and of DVC's cache (files)."""

    old: registry.Old
    unused: Sequence[Path]
    objects: Sequence[Path]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each kind: how many, and the megabytes that they take."""
        kinds = {
            "versions": (len(self.old.versions), self.old.files),
            "runs in MLflow": (len(self.old.runs), self.old.artifacts),
            "entries of the caches": (len(self.unused), self.unused),
            "files in DVC's cache": (len(self.objects), self.objects),
        }
        return [
            {"what": what, "count": count, "MB": round(registry.freed(places) / 1e6, 1)}
            for what, (count, places) in kinds.items()
        ]


def look(keep: int, days: float) -> Plan:
    """What would go; see `prune`."""
    old = registry.plan(load_params(layout.PARAMS).experiment, keep, days)
    return Plan(old, caches.unused(days), garbage(old.kept_data))


def carry_out(plan: Plan) -> None:
    """Remove what was found, for good; killed and repeated, it goes on."""
    old = plan.old
    with progress("prune", len(old.versions) + len(old.models) + len(old.runs) + len(plan.unused)) as tick:
        registry.remove(old, tick)
        caches.drop(plan.unused, tick)
    collect_garbage(old.kept_data)


@flow(name="prune", persist_result=False)
def prune(keep: int = 5, days: float = 30) -> Any:
    """Remove what nobody needs any more, for good.

    Args:
        keep: Registered versions that stay whatever they are, the newest; champion and predecessor stay anyway.
        days: Age up to which runs, checkpoints and entries of the caches stay.
    """
    refuse_inside_dvc()
    with one_at_a_time(wait=False) as free:
        if not free:
            return Cancelled(message=BUSY)
        found = look(keep, days)
        rows = found.rows()
        carry_out(found)
    publish("pruned", rows, "What was removed, and the space that it took")
    return Completed(message=f"{sum(row['MB'] for row in rows):.0f} MB freed")


def command(keep: Keep = 5, days: Days = 30, yes: Yes = False) -> None:
    """Say what nobody needs any more, and remove it with --yes."""
    from rich.table import Table

    with one_at_a_time(wait=False) as free:
        if not free:
            raise LerenetError(BUSY, "wait for its end, then repeat the command")
        found = look(keep, days)
        table = Table("what goes", "how many", "MB")
        for row in found.rows():
            table.add_row(*map(str, row.values()))
        console().print(table)
        for version in found.old.versions:
            typer.echo(f"version {version.number}: {version.tags.get('verdict', '')}")
        if yes:
            carry_out(found)
        else:
            typer.echo("nothing was removed: `lerenet prune --yes` removes it")


if __name__ == "__main__":
    run_app(lambda: typer.run(command))
