"""Which class is in which of the three folds, as dataset.yaml holds it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from lerenet.data.sources import FOLDS
from lerenet.errors import DataError

Folds = list[list[str]]  # three lists of class names


def read_folds(path: Path) -> Folds:
    """Read three lists of class names, bare or under the key ``folds`` (as in dataset.yaml).

    Raises:
        DataError: missing, no YAML, not three lists of names, or a name twice.
    """
    remedy = "write three lists of class names, e.g. [[A, B], [C, D], [E, F]]"
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found", remedy) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid YAML: {error}", remedy) from error
    folds = raw.get("folds") if isinstance(raw, dict) else raw
    if not isinstance(folds, list) or len(folds) != 3 or not all(isinstance(names, list) for names in folds):
        raise DataError(f"{path}: folds are not three lists", remedy)
    names = [name for fold in folds for name in fold]
    wrong = [name for name in names if not isinstance(name, str) or names.count(name) > 1]
    if wrong:
        raise DataError(f"{path}: {wrong[0]!r} is listed twice or is no text", remedy)
    return folds


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
