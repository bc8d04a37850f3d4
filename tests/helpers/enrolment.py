"""Classes to enrol, without a network."""

from __future__ import annotations

import numpy as np
import torch

from lerenet.data.tiles import Tiling, tiling
from lerenet.enrolment.material import SIDE, Material

SIZE, CHANNELS = 50, 12


def material_like(groups: list[str], defect: list[bool], seed: int = 0) -> Material:
    """A class whose defect is a square in which one channel stands out."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((len(groups), SIZE, SIZE), bool)
    for place, bad in enumerate(defect):
        top, left = rng.integers(0, SIZE - 16, 2) // 2 * 2
        masks[place, top : top + 16, left : left + 16] = bad
    noise = rng.normal(0, 0.3, (len(groups), CHANNELS, SIDE, SIDE))
    noise[:, 0] += masks[:, ::2, ::2]
    noise[:, 1] += 0.5
    return Material(
        torch.from_numpy(noise).flatten(2).half(),
        list(torch.from_numpy(rng.integers(0, 255, (len(groups), SIZE, SIZE, 3), dtype=np.uint8))),
        list(torch.from_numpy(masks.astype(np.int8))), [tiling(SIZE, SIZE, 0, SIZE)] * len(groups),
        np.array(groups), np.array(defect),
    )  # fmt: skip


def wide_material(groups: list[str], defect: list[bool], seed: int = 0) -> Material:
    """The same, in pictures of two squares, the left one of which holds the defect."""
    left, right = material_like(groups, defect, seed), material_like(groups, [False] * len(groups), seed + 1)
    both = torch.stack([left.descriptors, right.descriptors], 1).flatten(0, 1)
    pictures, marks = (
        [torch.cat(pair, 1) for pair in zip(one, two, strict=True)]
        for one, two in ((left.pictures, right.pictures), (left.marks, right.marks))
    )
    how = Tiling(SIZE, 2 * SIZE, SIZE, ((0, 0), (0, SIZE)))
    return Material(both, pictures, marks, [how] * len(groups), np.array(groups), np.array(defect))
