"""What the ledger says, told to people: each decision once, by whichever process comes to it first.

The ledger is written before the alias moves, so a process that dies in between, or right after, leaves a decision that
nobody heard of; the next decision tells it, or the watcher.
"""

from __future__ import annotations

import os
from typing import Any

from filelock import FileLock

from lerenet.files import write_text
from lerenet.layout import CHECKPOINTS
from lerenet.notify import VARIABLE, notify
from lerenet.registry import ledger, truth
from lerenet.registry import versions as registry
from lerenet.registry.settling import UNDONE

TOLD = CHECKPOINTS / "decisions.told"  # id of the ledger's entry that was told last


def tell() -> None:
    """Tell of every entry since the last that was told; what is interrupted has not happened yet.

    An entry that no receiver took is told with the next call. Nobody is listening (``LERENET_NOTIFY`` is empty): all
    count as told. Of a ledger that was never told from, only the newest is news.

    Raises:
        PromotionError: the ledger was changed.
        TrackingError: the store can't be used.
    """
    CHECKPOINTS.mkdir(exist_ok=True)
    with FileLock(CHECKPOINTS / "told.lock", timeout=60):
        for entry in _untold():
            if os.environ.get(VARIABLE) and not _taken(entry):
                return
            write_text(TOLD, entry["id"])


def _untold() -> list[dict[str, Any]]:
    entries = [entry for entry in ledger.read() if "id" in entry]
    told = TOLD.read_text(encoding="utf-8") if TOLD.exists() else ""
    places = [place for place, entry in enumerate(entries) if entry["id"] == told]
    new = entries[places[-1] + 1 :] if places else entries[-1:]
    under_way = truth.interrupted(registry.champion()).get("id") if new else None
    undone = {entry["previous"] for entry in new if entry["outcome"] == UNDONE}
    return [
        entry
        for entry in new
        if entry["id"] != under_way and not (entry["event"] == "promote" and entry["version"] in undone)
    ]


def _taken(entry: dict[str, Any]) -> bool:
    version, outcome, reason = entry["version"], entry["outcome"], [entry["reason"]]
    if entry["event"] == "rollback":
        words = "stays champion, a change was undone" if outcome == UNDONE else "is champion again"
        what = f"version {version} {words} (not {entry['previous']})"
        return notify(what, [*reason, f"asked by {entry['operator']}"], "lerenet ledger")
    reasons = entry.get("verdict", {}).get("reasons", reason)
    return notify(f"version {version} {outcome}", reasons, f"lerenet verdict {version}")
