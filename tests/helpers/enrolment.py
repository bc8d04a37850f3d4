"""Classes to enrol, without a network."""

from __future__ import annotations

import numpy as np
import torch

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
        torch.from_numpy(rng.integers(0, 255, (len(groups), SIZE, SIZE, 3), dtype=np.uint8)),
        torch.from_numpy(masks), np.array(groups), np.array(defect),
    )  # fmt: skip
