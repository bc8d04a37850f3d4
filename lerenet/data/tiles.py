"""A picture at the scale of its class, cut into overlapping squares of the network's size.

A class's ``side`` says how many pixels of a picture a square is wide: the picture is scaled, its shape kept, until so
many make the working size, and is cut evenly; neighbours share at least `OVERLAP` of a square. What is shorter than a
square is continued by its mirror image. Side 0 is the picture as a whole, squashed to one square.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lerenet.data.images import Pixels
from lerenet.data.scaling import Marks, Mask, resize_image, resize_marks, resize_mask
from lerenet.errors import DataError

OVERLAP = 0.2
LEAST = 1e-3  # of a window's weight, at a square's very edge
LONGER = 1.25  # than they are wide: pictures that lose their shape in one square
MOST = 4096  # squares of a picture
SOURCE, SIDE, TILE = "source", "side", "tile"  # columns: a square's picture, its width there, its number
Cut = TypeVar("Cut", Pixels, Mask, Marks, Tensor)


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut.

    Attributes:
        height, width: of the picture as it is worked on, in pixels.
        size: side of a square, in those pixels.
        corners: top and left of each square, row by row.
    """

    height: int
    width: int
    size: int
    corners: tuple[tuple[int, int], ...]

    def fitted(self, picture: Pixels) -> Pixels:
        """A picture (H, W, 3) as it is cut, at least a square high and wide."""
        sized = resize_image(picture, (self.height, self.width))
        return (
            np.pad(sized, (*self._more(), (0, 0)), mode="symmetric") if any(map(any, self._more())) else sized
        )

    def fitted_mask(self, mask: Mask) -> Mask:
        """A mask (H, W), as `fitted`."""
        sized = resize_mask(mask, (self.height, self.width))
        return np.pad(sized, self._more(), mode="symmetric") if any(map(any, self._more())) else sized

    def fitted_marks(self, marks: Marks) -> Marks:
        """Marks (H, W), as `fitted`."""
        sized = resize_marks(marks, (self.height, self.width))
        return np.pad(sized, self._more(), mode="symmetric") if any(map(any, self._more())) else sized

    def _more(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return (0, max(0, self.size - self.height)), (0, max(0, self.size - self.width))

    def blended(self, tiles: Tensor) -> Tensor:
        """Values of the squares (T, size, size) as one picture (height, width).

        Where squares overlap they count by a window that falls off towards their edges (sin² in both directions), so
        that no edge shows.
        """
        if len(self.corners) == 1:
            return tiles[0, : self.height, : self.width]
        ramp = torch.sin((torch.arange(self.size, device=tiles.device) + 0.5) * torch.pi / self.size) ** 2
        window = (ramp[:, None] * ramp).clamp_min(LEAST)
        shape = (max(self.height, self.size), max(self.width, self.size))
        total, weight = tiles.new_zeros(shape), tiles.new_zeros(shape)
        for tile, (top, left) in zip(tiles, self.corners, strict=True):
            place = np.s_[top : top + self.size, left : left + self.size]
            total[place] += tile * window
            weight[place] += window
        return (total / weight)[: self.height, : self.width]

    def cut(self, fitted: Cut) -> list[Cut]:
        """The squares of what `fitted`, `fitted_mask` or `fitted_marks` gave."""
        return [fitted[top : top + self.size, left : left + self.size] for top, left in self.corners]

    def joined(self, squares: Tensor) -> Tensor:
        """What `cut` was given, of the squares (T, size, size, …) that it made."""
        shape = (max(self.height, self.size), max(self.width, self.size))
        whole = squares.new_zeros(*shape, *squares.shape[3:])
        for square, (top, left) in zip(squares, self.corners, strict=True):
            whole[top : top + self.size, left : left + self.size] = square
        return whole


def tiling(height: int, width: int, side: int, size: int) -> Tiling:
    """How a picture is cut into squares of ``side`` pixels that are worked on at ``size``.

    Raises:
        DataError: more than 4,096 squares.
    """
    if not side:
        return Tiling(size, size, size, ((0, 0),))
    high, wide = (max(1, round(length * size / side)) for length in (height, width))
    corners = tuple(itertools.product(_starts(high, size), _starts(wide, size)))
    if len(corners) > MOST:
        raise DataError(
            f"a picture of {width} x {height} pixels in squares of {side}: {len(corners)} of them",
            f"at most {MOST}; choose larger ones, or a scale above 1",
        )
    return Tiling(high, wide, size, corners)


def _starts(length: int, size: int) -> list[int]:
    """Where squares begin along one direction."""
    if length <= size:
        return [0]
    count = math.ceil((length - size) / (size * (1 - OVERLAP))) + 1
    return [round(number * (length - size) / (count - 1)) for number in range(count)]


def side_for(shapes: Sequence[tuple[int, int]]) -> int:
    """The side for pictures (height, width): how high a wide one of them is, 0 where they are about as wide as high."""
    short, long = np.sort(np.asarray(shapes), axis=1).T
    return round(float(np.median(short))) if np.median(long / short) > LONGER else 0


def tiled(rows: pd.DataFrame, sides: Mapping[str, int], size: int) -> pd.DataFrame:
    """Rows of the catalogue, a row a square: `SOURCE` names its picture, `SIDE` and `TILE` say which square it is.

    Pictures of classes whose side is 0 keep their one row.
    """
    parts = []
    for row in rows.to_dict("records"):
        side = sides.get(str(row["cls"]), 0)
        if not side:
            parts.append({**row, SOURCE: row["image"], SIDE: 0, TILE: 0})
            continue
        count = len(tiling(row["height"], row["width"], side, size).corners)
        names = (f"{row['image']}@{side}+{number:04d}" for number in range(count))
        parts += [
            {**row, "image": name, SOURCE: row["image"], SIDE: side, TILE: number}
            for number, name in enumerate(names)
        ]
    return pd.DataFrame(parts, columns=[*rows.columns, SOURCE, SIDE, TILE])
