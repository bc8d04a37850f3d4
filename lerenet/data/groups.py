"""Leave-group-out: a group keeps its fold for ever, so old and new models are asked about parts neither has seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def fold_of(group: str, folds: int) -> int:
    """The fold of a group, ``<class>/<part>`` or ``<part>``: the SHA-256 of the part modulo ``folds``.

    The class says nothing: a part that shows defects of two classes is left out of both at once.
    """
    part = group.split("/", 1)[-1]
    return int(hashlib.sha256(part.encode()).hexdigest(), 16) % folds


def folds_of(groups: Sequence[str], folds: int) -> NDArray[np.int64]:
    """The fold of each image, by its group, (N,)."""
    return np.array([fold_of(str(group), folds) for group in groups], dtype=np.int64)


def in_turn(groups: Sequence[str], rng: np.random.Generator) -> list[int]:
    """Places of images in random order, one of each group before a second of any: how examples arrive."""
    seen: dict[str, int] = {}
    ranked = []
    for number, place in enumerate(rng.permutation(len(groups))):
        group = str(groups[place])
        seen[group] = seen.get(group, 0) + 1
        ranked.append((seen[group], number, int(place)))
    return [place for _, _, place in sorted(ranked)]


def of_each_group(groups: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Indices of the images of each group, groups by name."""
    return [np.flatnonzero(groups == group) for group in np.unique(groups)]
