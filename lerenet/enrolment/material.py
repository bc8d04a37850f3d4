"""What a class is enrolled from, described: places of pictures, masks, groups."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lerenet.data.images import Pixels
from lerenet.data.scaling import Mask, resize_image
from lerenet.data.tiles import Tiling, tiling
from lerenet.features.store import fingerprint, to_batch
from lerenet.models.descriptors import stacked
from lerenet.models.segmenter import masks_to_grid, to_grid
from lerenet.models.serialization import LoadedNetwork

SIDE = 25  # places a side
TARGETS = 100  # side of what a head is fitted to
BATCH = 8


@dataclass(frozen=True)
class Material:
    """N images of one class, marked examples and good parts, in T squares.

    Attributes:
        descriptors: of the squares' places, half precision, (T, c, l).
        pictures: each as it is cut (`Tiling.fitted`), uint8 (H, W, 3).
        masks: likewise, (H, W) of true and false; nothing is marked on a good part.
        tilings: how each is cut.
        groups: of each image: images of one part share a group.
        defect: whether it is a marked example, (N,).
    """

    descriptors: Tensor
    pictures: Sequence[Tensor]
    masks: Sequence[Tensor]
    tilings: Sequence[Tiling]
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

    @cached_property
    def _squares(self) -> list[tuple[int, int, int]]:
        """Image, top and left of each square."""
        return [(place, *corner) for place, how in enumerate(self.tilings) for corner in how.corners]

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(len(how.corners) for how in self.tilings)])

    def squares(self, chosen: Sequence[int]) -> list[int]:
        """Places of the squares of some images, in that order."""
        return [square for place in chosen for square in range(self._first[place], self._first[place + 1])]

    def only(self, chosen: Sequence[int]) -> Material:
        """The material of some images, in that order."""
        places = list(chosen)
        return Material(
            self.descriptors[self.squares(places)],
            [self.pictures[place] for place in places], [self.masks[place] for place in places],
            [self.tilings[place] for place in places], self.groups[places], self.defect[places],
        )  # fmt: skip

    def apart(self, squares: Sequence[int]) -> Material:
        """The material of some squares, each an image by itself, which is an example if something is marked on it."""
        masks = list(self.square_masks(squares))
        size = self.tilings[0].size
        return Material(
            self.descriptors[list(squares)], [self._cut(self.pictures, square) for square in squares], masks,
            [tiling(size, size, 0, size)] * len(masks), self.groups[[self._squares[square][0] for square in squares]],
            np.array([bool(mask.any()) for mask in masks], bool),
        )  # fmt: skip

    def marked(self, squares: Sequence[int]) -> list[bool]:
        """Whether anything is marked on each of some squares."""
        return [bool(self._cut(self.masks, square).any()) for square in squares]

    def mask(self, place: int) -> Tensor:
        """Mask (H, W) of an image, in the shape in which it is worked on."""
        how = self.tilings[place]
        return self.masks[place][: how.height, : how.width]

    def picture(self, place: int) -> Tensor:
        """Picture (H, W, 3) of an image, likewise."""
        how = self.tilings[place]
        return self.pictures[place][: how.height, : how.width]

    def _cut(self, parts: Sequence[Tensor], square: int) -> Tensor:
        place, top, left = self._squares[square]
        size = self.tilings[place].size
        return parts[place][top : top + size, left : left + size]

    def square_masks(self, squares: Sequence[int]) -> Tensor:
        """Masks of squares, (n, S, S)."""
        return torch.stack([self._cut(self.masks, square) for square in squares])

    def images(self, squares: Sequence[int]) -> Tensor:
        """Pictures of squares, (n, 3, S, S) in [0, 1]."""
        pictures = torch.stack([self._cut(self.pictures, square) for square in squares])
        return pictures.permute(0, 3, 1, 2).float() / 255

    def shares(self, squares: Sequence[int]) -> Tensor:
        """Share of each place of squares that is defect, (n, l)."""
        return masks_to_grid(self.square_masks(squares).float()[:, None], SIDE)[:, 0].flatten(1)

    def targets(self, squares: Sequence[int]) -> Tensor:
        """Share of each of a square's `TARGETS` x `TARGETS` parts that is defect, (n, TARGETS, TARGETS)."""
        wide = self.square_masks(squares).float()[:, None]
        return F.interpolate(wide, size=(TARGETS,) * 2, mode="area")[:, 0]


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
    side: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> Material:
    """The material of pictures as they come from files; ``groups`` of the examples, then of the good parts.

    Args:
        side: of the squares that they are cut into, in pixels of the files (`lerenet.data.tiles`).
    """
    described, pictures, masks, tilings = list[Tensor](), list[Tensor](), list[Tensor](), list[Tiling]()
    for number, picture in enumerate((*(one for one, _ in marked), *good)):
        how = tiling(picture.shape[0], picture.shape[1], side, loaded.image_size)
        fitted = how.fitted(picture)
        mask = (
            how.fitted_mask(marked[number][1]) if number < len(marked) else np.zeros(fitted.shape[:2], bool)
        )
        described.append(describe(loaded, how.cut(fitted)).half())
        device = described[0].device
        pictures.append(torch.from_numpy(fitted.copy()).to(device))
        masks.append(torch.from_numpy(mask.copy()).to(device))
        tilings.append(how)
        tick()
    return Material(
        torch.cat(described), pictures, masks, tilings, np.asarray(groups, str),
        np.arange(len(pictures)) < len(marked),
    )  # fmt: skip
