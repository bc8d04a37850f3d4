"""Checkpoints that survive a kill at any moment: written whole or not at all, the last two kept."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from lerenet.files import atomic_path, sweep_temporaries

log = logging.getLogger(__name__)
KEEP = 2


def save(folder: Path, state: dict[str, Any], step: int) -> Path:
    """Write ``state`` (tensors and plain values) as the checkpoint of ``step``; older ones go only then."""
    path = folder / f"step{step:09d}.pt"
    with atomic_path(path) as temporary:
        torch.save(state, temporary)
    for old in sorted(folder.glob("step*.pt"))[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


def load_latest(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The newest readable checkpoint whose ``fingerprint`` entry matches, else None.

    A file that can't be read is passed over with a warning; one of other settings or data is ignored.
    """
    if not folder.exists():
        return None
    sweep_temporaries(folder)
    for path in sorted(folder.glob("step*.pt"), reverse=True):
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:
            log.warning("%s: unreadable checkpoint passed over (%s)", path, type(error).__name__)
            continue
        if state.get("fingerprint") == fingerprint:
            return state
    return None


def clear(folder: Path) -> None:
    """Remove the checkpoints of a finished run."""
    for path in folder.glob("step*.pt"):
        path.unlink(missing_ok=True)
