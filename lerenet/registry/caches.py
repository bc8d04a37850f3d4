"""What lies in the caches and was not used for a while: it can be made again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lerenet.layout import CACHE, CHECKPOINTS

KINDS = ("features", "enrol", "champion", "registry")  # folders of `CACHE`; what uses an entry touches it
DIGEST = ".sha256"  # of the file beside it (`lerenet.files.write_digest`)
DAY = 24 * 60 * 60


def unused(days: float) -> list[Path]:
    """Entries of the caches, and folders of interrupted runs, that nothing used for so many days."""
    oldest = time.time() - days * DAY
    entries = [path for kind in KINDS for path in sorted((CACHE / kind).glob("*")) if path.suffix != DIGEST]
    return [
        path for path in (*entries, *_interrupted()) if max(map(_time, (path, *path.rglob("*")))) < oldest
    ]


def _interrupted() -> Iterator[Path]:
    """Folders that hold what a stage that did not end would go on with; where a lock lies, somebody may be at work."""
    for folder in sorted(CHECKPOINTS.rglob("*")):
        within = list(folder.iterdir()) if folder.is_dir() else []
        if any(map(Path.is_file, within)) and not any(
            one.is_dir() or one.suffix == ".lock" for one in within
        ):
            yield folder


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # replaced meanwhile
        return time.time()


def drop(paths: Sequence[Path], tick: Callable[[int], None] = lambda done: None) -> None:
    """Remove what `unused` found; ``tick`` is called with 1 each."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
            path.with_suffix(DIGEST).unlink(missing_ok=True)
        tick(1)
