"""A project that was moved: MLflow keeps absolute addresses of artifacts; they are written anew where those lie now."""

from __future__ import annotations

import logging
import re
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

log = logging.getLogger(__name__)

ARTIFACTS = "mlartifacts"
FOLDER = re.compile(rf"/{ARTIFACTS}(?=/|$)")  # in an address
PLACES = (
    ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"),
    ("model_versions", "source"), ("model_versions", "storage_location"),
)  # fmt: skip
WAIT = 30.0  # seconds for another program's lock


def follow(store: Path, home: Path | None = None) -> int:
    """Write anew each address in a store whose file or folder lies beside it; how many there were.

    What still lies where the store says is left alone, for then the project was copied, and so is what lies in
    neither place: a run that logged nothing has no folder.

    Args:
        store: an sqlite file; without artifacts beside it nothing is done.
        home: the folder into which store and artifacts, restored from a backup, are about to be moved; the addresses
            become those there, and what still lies where the store says is the project that was backed up.

    Raises:
        sqlite3.OperationalError: another program holds the store.
    """
    beside = store.resolve().parent / ARTIFACTS
    if not beside.is_dir() or not store.is_file() or not store.stat().st_size:
        return 0
    root = beside if home is None else home.resolve() / ARTIFACTS
    changed = 0
    with closing(sqlite3.connect(store, timeout=WAIT)) as base, base:
        for table, column in PLACES:
            query = f"SELECT rowid, {column} FROM {table} WHERE {column} LIKE 'file:%'"
            for row, address in rows(base, query):
                tail = _tail(str(address), beside, root, copied=home is None)
                if tail is not None:
                    new = root.as_uri() + tail
                    base.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, row))
                    changed += 1
    if changed:
        log.info("%s: the project was moved here, %d addresses of artifacts follow", store, changed)
    return changed


def _tail(address: str, beside: Path, root: Path, copied: bool) -> str | None:
    """What follows the folder of artifacts in an address that is to be written anew; None: it stays."""
    if address.startswith(f"{root.as_uri()}/") or address == root.as_uri() or (copied and there(address)):
        return None
    tails = (address[mark.end() :] for mark in FOLDER.finditer(address))
    return next((tail for tail in tails if there(beside.as_uri() + tail)), None)


def local(address: str) -> Path | None:
    """The file or folder that an address names; None for one that is not of this machine's file system."""
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None if parts.scheme else Path(address)


def there(address: str) -> bool:
    """Whether the file or folder of an address is there, and may be looked for."""
    path = local(address)
    with suppress(OSError):  # a folder of another user's
        return path is not None and path.exists()
    return False


def rows(base: sqlite3.Connection, query: str) -> list[tuple[object, ...]]:
    """Answer of a query to an MLflow store; nothing where it is too old or too new to have such a table.

    Raises:
        sqlite3.OperationalError: anything else, as another program's lock.
    """
    try:
        return base.execute(query).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
