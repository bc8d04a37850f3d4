"""Which files a store needs: those of its runs, logged models and versions that were not deleted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lerenet.errors import TrackingError
from lerenet.files import shown
from lerenet.tracking.moved import local, rows, there
from lerenet.tracking.store import redacted

VERSION = "version"
VERSIONS = (
    "SELECT version || ' of ' || name, {} FROM model_versions WHERE current_stage != 'Deleted_Internal'"
)
LIVE = (
    (VERSION, VERSIONS.format("source")),
    (VERSION, VERSIONS.format("storage_location")),
    (
        "logged model",
        "SELECT model_id, artifact_location FROM logged_models WHERE lifecycle_stage = 'active'",
    ),
    ("run", "SELECT run_uuid, artifact_uri FROM runs WHERE lifecycle_stage = 'active'"),
)
BY_NAME = ("models", "runs")  # schemes of addresses that lead to another one of the store
NAMED = 20  # in a message


@dataclass(frozen=True)
class Needed:
    """Folders that a store needs, resolved, and who needs each."""

    owners: Mapping[Path, str]

    def by(self, file: Path) -> str:
        """Who needs a file; empty when nobody does."""
        file = file.resolve()
        return next((self.owners[path] for path in (file, *file.parents) if path in self.owners), "")


def needed(store: Path, artifacts: Path) -> Needed:
    """What a store needs below the folder ``artifacts``.

    Runs and logged models may have no files: they wrote none.

    Raises:
        TrackingError: it needs something that lies elsewhere, or the files of a version are gone; each is named.
    """
    owners: dict[Path, str] = {}
    missing: list[str] = []
    for kind, owner, address in _live(store):
        path = local(address)
        if path is None:
            missing.append(f"{owner}: {redacted(address)}")
        elif not there(address):
            missing += [f"{owner}: {shown(path)}, which is gone"] if kind == VERSION else []
        elif path.resolve().is_relative_to(artifacts.resolve()):
            owners[path.resolve()] = owner
        else:
            missing.append(f"{owner}: {shown(path)}")
    if missing:
        some = sorted(set(missing))
        more = [f"and {len(some) - NAMED} more"] if len(some) > NAMED else []
        raise TrackingError(
            f"not in {shown(artifacts)}, so a backup would lack them:\n  "
            + "\n  ".join([*some[:NAMED], *more]),
            "delete on MLflow's page what is not needed any more, put back what is gone; where artifacts lie on "
            "another disk or server, back up that and mlflow.db by themselves",
        )
    return Needed(owners)


def _live(store: Path) -> Iterator[tuple[str, str, str]]:
    """Kind, name and address of each that was not deleted."""
    with closing(sqlite3.connect(store)) as base:
        for kind, query in LIVE:
            for name, address in rows(base, query):
                if address and urlsplit(str(address)).scheme not in BY_NAME:
                    yield kind, f"{kind} {name}", str(address)
