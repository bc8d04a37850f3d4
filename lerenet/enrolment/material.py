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
from lerenet.data.scaling import Marks, resize_image
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
        marks: likewise, int8 (H, W) (`lerenet.data.scaling.Marks`); nothing is marked on a good part.
        tilings: how each is cut.
        groups: of each image: images of one part share a group.
        defect: whether it is a marked example, (N,).
    """

    descriptors: Tensor
    pictures: Sequence[Tensor]
    marks: Sequence[Tensor]
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
            [self.pictures[place] for place in places], [self.marks[place] for place in places],
            [self.tilings[place] for place in places], self.groups[places], self.defect[places],
        )  # fmt: skip

    def apart(self, squares: Sequence[int]) -> Material:
        """The material of some squares, each an image by itself, which is an example if something is marked on it."""
        marks = list(self.square_marks(squares))
        size = self.tilings[0].size
        return Material(
            self.descriptors[list(squares)], [self._cut(self.pictures, square) for square in squares], marks,
            [tiling(size, size, 0, size)] * len(marks), self.groups[[self._squares[square][0] for square in squares]],
            np.array([bool((one > 0).any()) for one in marks], bool),
        )  # fmt: skip

    def marked(self, squares: Sequence[int]) -> list[bool]:
        """Whether anything is marked on each of some squares."""
        return [bool((self._cut(self.marks, square) > 0).any()) for square in squares]

    def plain(self, squares: Sequence[int]) -> list[bool]:
        """Whether each of some squares is all background: nothing is marked, and nothing to be ignored."""
        return [not bool(self._cut(self.marks, square).any()) for square in squares]

    def mask(self, place: int) -> Tensor:
        """Mask (H, W) of an image, in the shape in which it is worked on."""
        return self._shown(self.marks, place) > 0

    def counted(self, place: int) -> Tensor:
        """Which pixels (H, W) of an image count, likewise."""
        return self._shown(self.marks, place) >= 0

    def picture(self, place: int) -> Tensor:
        """Picture (H, W, 3) of an image, likewise."""
        return self._shown(self.pictures, place)

    def _shown(self, parts: Sequence[Tensor], place: int) -> Tensor:
        how = self.tilings[place]
        return parts[place][: how.height, : how.width]

    def _cut(self, parts: Sequence[Tensor], square: int) -> Tensor:
        place, top, left = self._squares[square]
        size = self.tilings[place].size
        return parts[place][top : top + size, left : left + size]

    def square_marks(self, squares: Sequence[int]) -> Tensor:
        """Marks of squares, (n, S, S)."""
        return torch.stack([self._cut(self.marks, square) for square in squares])

    def images(self, squares: Sequence[int]) -> Tensor:
        """Pictures of squares, (n, 3, S, S) in [0, 1]."""
        pictures = torch.stack([self._cut(self.pictures, square) for square in squares])
        return pictures.permute(0, 3, 1, 2).float() / 255

    def within(self, squares: Sequence[int], side: int) -> Tensor | None:
        """Pixels of squares that count, (n, side, side) of true and false; None where all do."""
        counted = self.square_marks(squares) >= 0
        if counted.all():
            return None
        return F.interpolate(counted[:, None].float(), size=(side, side), mode="nearest")[:, 0] > 0

    def shares(self, squares: Sequence[int]) -> Tensor:
        """Share of each place of squares that is defect, (n, l); negative where a pixel of it is to be ignored."""
        marks = self.square_marks(squares)[:, None]
        shares, ignored = (
            masks_to_grid(part.float(), SIDE)[:, 0].flatten(1) for part in (marks > 0, marks < 0)
        )
        return torch.where((ignored > 0) & (shares <= 0.5), -1.0, shares)

    def targets(self, squares: Sequence[int]) -> Tensor:
        """Share of each of a square's `TARGETS` x `TARGETS` parts that is defect, (n, TARGETS, TARGETS).

        Negative where half of a part and more is to be ignored.
        """
        marks = self.square_marks(squares)[:, None]
        shares, ignored = (
            F.interpolate(part.float(), size=(TARGETS,) * 2, mode="area")[:, 0]
            for part in (marks > 0, marks < 0)
        )
        return torch.where((ignored >= 0.5) & (shares <= 0), -1.0, shares)


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
    """Descriptors (N, c, l), half precision, of pictures (H, W, 3) of any size, on the levels the network reads."""
    network = loaded.network
    device = next(itertools.chain(network.parameters(), network.buffers())).device
    found: Tensor | None = None  # a large picture has hundreds of squares: they are held once
    for start in range(0, len(pictures), BATCH):
        sized = [resize_image(picture, loaded.image_size) for picture in pictures[start : start + BATCH]]
        some = places_of(network.backbone.features(to_batch(sized, device), network.head.levels)).half()
        found = some.new_empty(len(pictures), *some.shape[1:]) if found is None else found
        found[start : start + len(some)] = some
    assert found is not None
    return found


def gathered(
    loaded: LoadedNetwork,
    marked: Sequence[tuple[Pixels, Marks]],
    good: Sequence[Pixels],
    groups: Sequence[str],
    side: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> Material:
    """The material of pictures as they come from files; ``groups`` of the examples, then of the good parts.

    Args:
        side: of the squares that they are cut into, in pixels of the files (`lerenet.data.tiles`).
    """
    described, pictures, marks, tilings = list[Tensor](), list[Tensor](), list[Tensor](), list[Tiling]()
    for number, picture in enumerate((*(one for one, _ in marked), *good)):
        how = tiling(picture.shape[0], picture.shape[1], side, loaded.image_size)
        fitted = how.fitted(picture)
        own = (
            how.fitted_marks(marked[number][1])
            if number < len(marked)
            else np.zeros(fitted.shape[:2], np.int8)
        )
        described.append(describe(loaded, how.cut(fitted)))
        device = described[0].device
        pictures.append(torch.from_numpy(fitted.copy()).to(device))
        marks.append(torch.from_numpy(own.copy()).to(device))
        tilings.append(how)
        tick()
    return Material(
        torch.cat(described), pictures, marks, tilings, np.asarray(groups, str),
        np.arange(len(pictures)) < len(marked),
    )  # fmt: skip
