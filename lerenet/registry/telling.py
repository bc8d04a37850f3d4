"""What the ledger says, told to people: each decision once, by whichever process comes to it first.

The ledger is written before the alias moves, so a process that dies in between, or right after, leaves a decision that
nobody heard of; the next decision tells it, or the watcher.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock

from lerenet.files import write_text
from lerenet.layout import CHECKPOINTS
from lerenet.notify import VARIABLE, notify
from lerenet.registry import ledger, truth
from lerenet.registry import versions as registry
from lerenet.registry.settling import UNDO

TOLD = CHECKPOINTS / "decisions.told"  # id of the ledger's entry that was told last
FIRST = "-"  # in its place before the first one
DAYS = 7.0  # after which a decision is no news


def tell() -> None:
    """Tell of every entry since the last that was told; what is interrupted has not happened yet.

    An entry that no receiver took is told with the next call. A process that knows no receiver (``LERENET_NOTIFY`` is
    empty) leaves it to one that does, the watcher. Of a ledger that was never told from, the newest entry is news; what
    is older than a week is none.

    Raises:
        PromotionError: the ledger was changed.
        TrackingError: the store can't be used.
    """
    if not os.environ.get(VARIABLE):
        return
    CHECKPOINTS.mkdir(exist_ok=True)
    with FileLock(CHECKPOINTS / "told.lock", timeout=60):
        for entry in _untold():
            if _age(entry) < DAYS and not _taken(entry):
                return
            write_text(TOLD, entry["id"])


def _untold() -> list[dict[str, Any]]:
    entries = [entry for entry in ledger.read() if "id" in entry]
    if entries and not TOLD.exists():
        write_text(TOLD, entries[-2]["id"] if len(entries) > 1 else FIRST)
    told = TOLD.read_text(encoding="utf-8") if entries else FIRST
    places = [place for place, entry in enumerate(entries) if entry["id"] == told]
    new = entries[places[-1] + 1 :] if places else entries if told == FIRST else entries[-1:]
    under_way = truth.interrupted(registry.champion()).get("id") if new else None
    undone = {entry["id"].removeprefix(UNDO) for entry in new if entry["id"].startswith(UNDO)}
    return [entry for entry in new if entry["id"] != under_way and entry["id"] not in undone]


def _age(entry: dict[str, Any]) -> float:
    """Days."""
    return (datetime.now(UTC) - datetime.fromisoformat(entry["time"])).total_seconds() / 86400


def _taken(entry: dict[str, Any]) -> bool:
    version, reason = entry["version"], [entry["reason"]]
    if entry["event"] == "rollback":
        undone = entry["id"].startswith(UNDO)
        words = "stays champion, a change was undone" if undone else "is champion again"
        what = f"version {version} {words} (not {entry['previous']})"
        return notify(what, [*reason, f"asked by {entry['operator']}"], "lerenet ledger")
    reasons = entry.get("verdict", {}).get("reasons", reason)
    return notify(f"version {version} {entry['outcome']}", reasons, f"lerenet verdict {version}")
