"""A project that was moved: MLflow keeps absolute addresses of artifacts; they are written anew where those lie now."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

log = logging.getLogger(__name__)

ARTIFACTS = "mlartifacts"
PLACES = (
    ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"),
    ("model_versions", "source"), ("model_versions", "storage_location"),
)  # fmt: skip
WAIT = 30.0  # seconds for another program's lock


def follow(store: Path, restored: bool = False) -> int:
    """Write the addresses anew in a store whose artifacts lie beside it and not where it says; how many there were.

    Artifacts that still lie where the store says are left alone, for then the project was copied; but not where it was
    ``restored`` from a backup.
    """
    here = store.resolve().parent / ARTIFACTS
    if not here.is_dir() or not store.is_file() or not store.stat().st_size:
        return 0
    with closing(sqlite3.connect(store, timeout=WAIT)) as base, base:
        changed = sum(_rewritten(base, old, here.as_uri()) for old in _elsewhere(base, here, restored))
    if changed:
        log.info("%s: the project was moved here, %d addresses of artifacts follow", store, changed)
    return changed


def _elsewhere(base: sqlite3.Connection, here: Path, restored: bool) -> set[str]:
    """Roots of artifacts that the store names and that are gone, or any other than ``here``."""
    roots = set()
    for table, column in PLACES:
        for (address,) in _ask(base, f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE 'file:%'"):
            root, mark, _ = str(address).partition(f"/{ARTIFACTS}")
            if mark:
                roots.add(root + mark)
    others = roots - {here.as_uri()}
    return {root for root in others if restored or not Path(unquote(urlsplit(root).path)).exists()}


def _rewritten(base: sqlite3.Connection, old: str, new: str) -> int:
    count = 0
    for table, column in PLACES:
        query = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
        if _ask(base, f"SELECT 1 FROM {table} LIMIT 1"):
            count += base.execute(query, (new, len(old) + 1, len(old), old)).rowcount
    return count


def _ask(base: sqlite3.Connection, query: str) -> list[tuple[object, ...]]:
    try:
        return base.execute(query).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
