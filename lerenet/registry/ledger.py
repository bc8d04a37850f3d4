"""What happened to the champion, line by line: an append-only file that MLflow has no place for."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from lerenet.errors import PromotionError
from lerenet.layout import CHECKPOINTS, LEDGER

CHANGES = ("promote", "rollback", "renew")  # events that moved the champion's alias, or meant to
COLUMNS = ("time", "event", "version", "previous", "outcome", "operator", "reason")


def append(entry: dict[str, Any], path: Path = LEDGER) -> dict[str, Any]:
    """Add ``entry`` with the time as one line, synced to disk; return it as written.

    An entry with the ``id`` of an earlier one is not written again (a repeated step).
    """
    CHECKPOINTS.mkdir(exist_ok=True)
    with FileLock(CHECKPOINTS / "ledger.lock", timeout=60):
        for old in read(path):
            if "id" in entry and old.get("id") == entry["id"]:
                return old
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **entry}
        text = json.dumps(line, sort_keys=True, allow_nan=False)
        whole = not path.exists() or path.read_bytes().endswith(b"\n") or path.stat().st_size == 0
        with path.open("a", encoding="utf-8") as handle:
            handle.write(
                ("" if whole else "\n") + text + "\n"
            )  # a killed writer's part stays a line of its own
            handle.flush()
            os.fsync(handle.fileno())
    return line


def read(path: Path = LEDGER) -> list[dict[str, Any]]:
    """All entries, oldest first; a line that a killed writer left unfinished is passed over.

    Raises:
        PromotionError: when a line in full is not JSON (the file was edited).
    """
    if not path.exists():
        return []
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            if line.rstrip().endswith("}"):
                raise PromotionError(
                    f"{path}:{number}: not JSON", "restore the ledger from a backup"
                ) from error
    return entries


def table(entries: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rows of text in the order of `COLUMNS`, for people."""
    return [tuple(str(entry.get(name) or "") for name in COLUMNS) for entry in entries]


def last_change(path: Path = LEDGER) -> dict[str, Any]:
    """The newest entry that moved the champion's alias, or meant to; empty when there is none."""
    return next((entry for entry in reversed(read(path)) if entry.get("event") in CHANGES), {})
