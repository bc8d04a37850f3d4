"""What a class is enrolled from, described: places of pictures, masks, groups."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lerenet.data.images import Pixels
from lerenet.data.scaling import Mask, resize_image, resize_mask
from lerenet.features.store import fingerprint, to_batch
from lerenet.models.descriptors import stacked
from lerenet.models.segmenter import masks_to_grid, to_grid
from lerenet.models.serialization import LoadedNetwork

SIDE = 25  # places a side
TARGETS = 100  # side of what a head is fitted to
BATCH = 8


@dataclass(frozen=True)
class Material:
    """Images of one class, marked examples and good parts.

    Attributes:
        descriptors: of the places, half precision, (N, c, l).
        pictures: at working size, uint8 (N, S, S, 3).
        masks: at working size, (N, S, S) of true and false; nothing is marked on a good part.
        groups: of each image: images of one part share a group.
        defect: whether it is a marked example, (N,).
    """

    descriptors: Tensor
    pictures: Tensor
    masks: Tensor
    groups: NDArray[np.str_]
    defect: NDArray[np.bool_]

    @property
    def examples(self) -> list[int]:
        """Places of the marked examples."""
        return [int(place) for place in np.flatnonzero(self.defect)]

    @property
    def good(self) -> list[int]:
        """Places of the good parts."""
        return [int(place) for place in np.flatnonzero(~self.defect)]

    def only(self, chosen: Sequence[int]) -> Material:
        """The material of some images, in that order."""
        places = list(chosen)
        return Material(
            self.descriptors[places], self.pictures[places], self.masks[places], self.groups[places],
            self.defect[places],
        )  # fmt: skip

    def shares(self, chosen: Sequence[int]) -> Tensor:
        """Share of each place that is defect, (n, l)."""
        return masks_to_grid(self.masks[list(chosen)].float()[:, None], SIDE)[:, 0].flatten(1)

    def targets(self, chosen: Sequence[int]) -> Tensor:
        """Share of each of `TARGETS` x `TARGETS` squares that is defect, (n, TARGETS, TARGETS)."""
        return F.interpolate(self.masks[list(chosen)].float()[:, None], size=(TARGETS,) * 2, mode="area")[
            :, 0
        ]

    def images(self, chosen: Sequence[int]) -> Tensor:
        """Pictures (n, 3, S, S) in [0, 1]."""
        return self.pictures[list(chosen)].permute(0, 3, 1, 2).float() / 255


def described_by(loaded: LoadedNetwork) -> str:
    """Hex SHA-256 of all that descriptors depend on: the backbone's weights, turns and stride, the levels read."""
    network = loaded.network
    said = f"{fingerprint(network.backbone)} {network.backbone.turns} {tuple(network.head.levels)}"
    said += f" stride {network.backbone.stride}" if network.backbone.stride else ""
    return hashlib.sha256(said.encode()).hexdigest()


def places_of(levels: Sequence[Tensor]) -> Tensor:
    """Descriptors (N, c, l) of a backbone's levels (N, c_i, h_i, w_i)."""
    return stacked([to_grid(level, SIDE).flatten(2) for level in levels])


@torch.inference_mode()
def describe(loaded: LoadedNetwork, pictures: Sequence[Pixels]) -> Tensor:
    """Descriptors (N, c, l) of pictures (H, W, 3) of any size, on the levels that the network reads."""
    network = loaded.network
    device = next(itertools.chain(network.parameters(), network.buffers())).device
    parts = []
    for start in range(0, len(pictures), BATCH):
        sized = [resize_image(picture, loaded.image_size) for picture in pictures[start : start + BATCH]]
        parts.append(places_of(network.backbone.features(to_batch(sized, device), network.head.levels)))
    return torch.cat(parts)


def gathered(
    loaded: LoadedNetwork,
    marked: Sequence[tuple[Pixels, Mask]],
    good: Sequence[Pixels],
    groups: Sequence[str],
    tick: Callable[[], None] = lambda: None,
) -> Material:
    """The material of pictures as they come from files; ``groups`` of the examples, then of the good parts."""
    size = loaded.image_size
    pictures = [resize_image(picture, size) for picture in (*(one for one, _ in marked), *good)]
    masks = [resize_mask(mask, size) for _, mask in marked] + [np.zeros((size, size), bool)] * len(good)
    parts = []
    for picture in pictures:
        parts.append(describe(loaded, [picture]).half())
        tick()
    described = torch.cat(parts)
    device = described.device
    return Material(
        described,
        torch.from_numpy(np.stack(pictures)).to(device),
        torch.from_numpy(np.stack(masks)).to(device),
        np.asarray(groups, str),
        np.arange(len(pictures)) < len(marked),
    )
