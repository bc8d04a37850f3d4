"""What happened to the champion, line by line: an append-only file that MLflow has no place for.

Each line carries the SHA-256 of all that stood before it (``chain``), so a line that is changed, removed or added is
found out by the next one. The end has nothing after it: the registry keeps the digest of the whole
(`lerenet.registry.truth`), under the id that each line carries (``ledger``): every checkout has a ledger of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from lerenet.errors import PromotionError
from lerenet.layout import CHECKPOINTS, LEDGER

CHANGES = ("promote", "rollback", "renew")  # events that moved the champion's alias, or meant to
SEALED = "seal"  # event: a person accepts what stands before it as it is
COLUMNS = ("time", "event", "version", "previous", "outcome", "operator", "reason")


def append(entry: dict[str, Any], path: Path = LEDGER) -> dict[str, Any]:
    """Add ``entry`` with the time, the ledger's id and the chain as one line, synced to disk; return it as written.

    An entry with the ``id`` of an earlier one is not written again (a repeated step). A seal begins a new ledger's id:
    a copy of another checkout's ledger becomes one of its own.

    Raises:
        PromotionError: a line was changed or removed; nothing is written then, but for a seal.
    """
    CHECKPOINTS.mkdir(exist_ok=True)
    with FileLock(CHECKPOINTS / "ledger.lock", timeout=60):
        sealing = entry.get("event") == SEALED
        for old in [] if sealing else read(path):
            if "id" in entry and old.get("id") == entry["id"]:
                return old
        before = path.read_bytes() if path.exists() else b""
        # What a killed writer left unfinished stays a line of its own.
        gap = b"" if not before or before.endswith(b"\n") else b"\n"
        chain = hashlib.sha256(before + gap).hexdigest()
        own = {"ledger": ("" if sealing else identity(path)) or uuid.uuid4().hex, "chain": chain}
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **entry, **own}
        text = json.dumps(line, sort_keys=True, allow_nan=False)
        with path.open("ab") as handle:
            handle.write(gap + text.encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
    return line


def read(path: Path = LEDGER) -> list[dict[str, Any]]:
    """All entries, oldest first; a line that a killed writer left unfinished is passed over.

    Raises:
        PromotionError: a line was changed, removed or added since the one after it was written, or the last one is
            no entry.
    """
    lines = list(_lines(path))
    trusted = max((line.number for line in lines if line.sealed), default=0)
    for line in lines:
        if line.number > trusted and not line.fits:
            raise PromotionError(f"{path}: changed, or a line removed, before line {line.number}", GO_ON)
        if line.number > trusted and line is lines[-1] and line.entry is None and line.ended:
            raise PromotionError(f"{path}:{line.number}: no entry: {line.text[:40]!r}", GO_ON)
    return [line.entry for line in lines if line.entry is not None]


GO_ON = (
    "restore the ledger from a backup; or look at it and go on with it as it is: "
    "`lerenet ledger --seal --reason WHY`"
)


@dataclass(frozen=True)
class _Line:
    """A line of the file.

    Attributes:
        text: without its line break.
        entry: None where it is none.
        ended: by a line break; the part that a killed writer leaves at the end of the file is not.
        before: SHA-256 of what stands before it.
    """

    number: int
    text: str
    entry: dict[str, Any] | None
    ended: bool
    before: str

    @property
    def fits(self) -> bool:
        """Whether what stands before is what its writer saw; a line of before there was a chain fits, too."""
        return self.entry is None or self.entry.get("chain", self.before) == self.before

    @property
    def sealed(self) -> bool:
        """Whether it accepts what stands before, and that as its writer saw it."""
        own = self.entry or {}
        return own.get("event") == SEALED and own.get("chain") == self.before


def _lines(path: Path) -> Iterator[_Line]:
    before = hashlib.sha256()
    raw = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(raw, 1):
        text = line.decode("utf-8", "replace").strip()
        yield _Line(number, text, _entry(text), line.endswith(b"\n"), before.hexdigest())
        before.update(line)


def _entry(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "event" in found and "version" in found else None


def identity(path: Path = LEDGER) -> str:
    """Id of the ledger, as its newest line has it; empty before there is one."""
    ids = [str(line.entry["ledger"]) for line in _lines(path) if line.entry and "ledger" in line.entry]
    return ids[-1] if ids else ""


def head(path: Path = LEDGER) -> str:
    """SHA-256 of the whole file; empty without one."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def heads(path: Path = LEDGER) -> set[str]:
    """What `head` was before each of the file's lines, and is."""
    return {line.before for line in _lines(path)} | {head(path)}


def seal(operator: str, reason: str, path: Path = LEDGER) -> dict[str, Any]:
    """Accept the file as it is, with what was changed or lost in it.

    Raises:
        PromotionError: without a reason.
    """
    if not reason.strip():
        raise PromotionError("a seal accepts a ledger that was changed: it needs a reason", "give --reason")
    said = {"event": SEALED, "version": "", "previous": "", "outcome": "accepted"}
    return append({**said, "operator": operator, "reason": reason}, path)


def table(entries: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rows of text in the order of `COLUMNS`, for people."""
    return [tuple(str(entry.get(name) or "") for name in COLUMNS) for entry in entries]


def last_change(path: Path = LEDGER) -> dict[str, Any]:
    """The newest entry that moved the champion's alias, or meant to; empty when there is none."""
    return next((entry for entry in reversed(read(path)) if entry.get("event") in CHANGES), {})
