"""Which class goes to which of the three folds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from lerenet.data.dataset import Folds, read_dataset, read_folds
from lerenet.data.importing.known_layouts import FOLDS
from lerenet.errors import DataError
from lerenet.files import shown


def given_folds(asked: Path | None, folders: Iterable[Path], classes: Collection[str]) -> Folds:
    """The folds in the file ``asked``; without one, those that the ``folders`` have, the first goes before.

    Raises:
        DataError: no folds of three lists; or ``asked`` names a class that is none of ``classes``.
    """
    if asked is not None:
        folds = read_folds(asked)
        unknown = sorted({cls for fold in folds for cls in fold} - set(classes))
        if unknown:
            raise DataError(
                f"{shown(asked)}: no class {unknown[0]!r} among {', '.join(sorted(classes))}",
                "correct the name",
            )
        return folds
    merged: Folds = [[], [], []]
    for dataset in filter(None, map(read_dataset, folders)):
        seen = {cls for fold in merged for cls in fold}
        for fold, names in zip(merged, dataset.folds, strict=True):
            fold += [cls for cls in names if cls not in seen]
    return merged


def assign_folds(classes: Iterable[str], given: Sequence[Sequence[str]] | None) -> tuple[Folds, list[str]]:
    """Every class to a fold, and the classes that had to be dealt out.

    ``given`` first, then the paper's table; the rest, sorted, each to the smallest fold.
    """
    left = sorted(classes)
    folds: Folds = [[], [], []]
    for table in (given or (), FOLDS):
        for fold, names in zip(folds, table, strict=False):
            fold += [name for name in names if name in left]
            left = [name for name in left if name not in names]
    for name in left:
        min(folds, key=len).append(name)
    return folds, left
