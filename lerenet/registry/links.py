"""Equal files of MLflow's store as one: weights that a run, its version and the next version share lie there once."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator
from pathlib import Path

from lerenet.files import TEMPORARY
from lerenet.tracking.moved import ARTIFACTS

LEAST = 64 * 1024  # bytes of a file that is worth it


def share(folder: Path) -> int:
    """Make each large file in ``folder`` a hard link to an equal one of the same store; bytes saved.

    Nothing is written into a file of the store after that: what is logged anew replaces it
    (`lerenet.tracking.runs`). A file system without links keeps its copies.
    """
    root = next((parent for parent in folder.parents if parent.name == ARTIFACTS), None)
    if root is None:
        return 0
    new = list(_large(folder))
    others: dict[int, dict[int, Path]] = {}
    sizes = {path.stat().st_size for path in new}
    for path in _large(root):
        status = path.stat()
        if status.st_size in sizes and folder not in path.parents:
            others.setdefault(status.st_size, {}).setdefault(status.st_ino, path)
    saved = 0
    for path in new:
        status = path.stat()
        known = others.setdefault(status.st_size, {})
        same = next(
            (old for ino, old in known.items() if ino == status.st_ino or filecmp.cmp(old, path, False)), None
        )
        if same is None:
            known[status.st_ino] = path
        elif not path.samefile(same) and _linked(same, path, root):
            saved += status.st_size
    return saved


def _large(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size >= LEAST:
            yield path


def _linked(same: Path, path: Path, root: Path) -> bool:
    temporary = (
        root / f"{TEMPORARY}{os.getpid()}"
    )  # not beside it: nothing may ever lie there that was not registered
    try:
        os.link(same, temporary)
        os.replace(temporary, path)
    except OSError:  # another file system, or one without links
        temporary.unlink(missing_ok=True)
        return False
    return True
