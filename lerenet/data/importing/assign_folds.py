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


def assign_folds(
    classes: Iterable[str], given: Sequence[Sequence[str]] | None, together: Iterable[Collection[str]] = ()
) -> tuple[Folds, list[str]]:
    """Every class to a fold, and the classes that had to be dealt out.

    ``given`` first, then the paper's table; the rest, sorted, each to the smallest fold, with those that it has images
    in common with (``together``, the classes of an image each).
    """
    left = sorted(classes)
    folds: Folds = [[], [], []]
    for table in (given or (), FOLDS):
        for fold, names in zip(folds, table, strict=False):
            fold += [name for name in names if name in left]
            left = [name for name in left if name not in names]
    dealt = set()
    for name in left:
        if name not in dealt:
            joined = _joined(name, together)
            fold = next((fold for fold in folds if joined & set(fold)), min(folds, key=len))
            fold += [one for one in left if one in joined]
            dealt |= joined
    return folds, left


def _joined(name: str, together: Iterable[Collection[str]]) -> set[str]:
    """A class, those that share an image with it, those that share one with them, and so on."""
    joined, before = {name}, 0
    while len(joined) > before:
        before = len(joined)
        joined.update(*(classes for classes in together if joined & set(classes)))
    return joined


def torn(folds: Folds, together: Iterable[Collection[str]]) -> list[str]:
    """Problems: classes that have an image in common and stand in different folds."""
    fold_of = {name: number for number, fold in enumerate(folds) for name in fold}
    apart = {tuple(sorted(names)) for names in together if len({fold_of[name] for name in names}) > 1}
    return [
        f"classes {', '.join(f'{name} (fold {fold_of[name]})' for name in names)} have images in common"
        for names in sorted(apart)
    ]
