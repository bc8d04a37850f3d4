"""Polygons to pixels: the one pixel convention of all formats.

A coordinate counts from the image's upper left corner, x to the right, y down, in pixels: the pixel in row r and
column c covers x from c to c + 1 and y from r to r + 1, its centre is (c + 0.5, r + 0.5). A pixel is inside when its
centre is. A centre that an edge runs through belongs to what lies to the right of that edge, or below it: parts that
share an edge share no pixel, and leave none out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lerenet.annotations.regions import Size
from lerenet.data.scaling import Mask

Ring = NDArray[np.float64]  # (N, 2): x and y of each corner; the last one is joined to the first
BEYOND = 1.0  # pixels that a corner may lie outside the image: tools round
INWARDS = 1e-6  # share of the way to a thin ring's middle: a corner between pixels belongs to the ring's side


def ring_of(numbers: Sequence[float]) -> Ring:
    """A ring of x, y, x, y, …

    Raises:
        ValueError: fewer than three corners, an odd count, or no finite numbers.
    """
    ring = np.asarray(numbers, dtype=np.float64).reshape(-1)
    if len(ring) % 2:
        raise ValueError(f"{len(ring)} numbers are no pairs of x and y")
    if len(ring) < 6:
        raise ValueError(f"{len(ring) // 2} corners are no polygon")
    if not np.isfinite(ring).all():
        raise ValueError("a coordinate is no finite number")
    return np.reshape(ring, (-1, 2))


def box(left: float, top: float, right: float, bottom: float, degrees: float = 0.0) -> Ring:
    """The ring of a box, turned clockwise by ``degrees`` about its centre."""
    corners = ring_of([left, top, right, top, right, bottom, left, bottom])
    return turned(corners, corners.mean(axis=0), degrees) if degrees else corners


def turned(ring: Ring, about: NDArray[np.float64], degrees: float) -> Ring:
    """A ring turned clockwise, as one sees it, about a point (x, y)."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.asarray((ring - about) @ np.array([[cos, sin], [-sin, cos]]) + about)


def fill(rings: Iterable[Ring], size: Size) -> Mask:
    """The pixels (H, W) inside any of the rings, each by the even-odd rule.

    One too thin to hold a pixel's centre marks the pixels that its outline runs through: no thin defect vanishes.

    Raises:
        ValueError: a corner more than `BEYOND` pixels outside the image.
    """
    mask: Mask = np.zeros(size, dtype=bool)
    for ring in rings:
        _require_within(ring, size)
        top, left = np.clip(np.floor(ring.min(axis=0)), 0, size[::-1]).astype(int)[::-1]
        bottom, right = np.clip(np.ceil(ring.max(axis=0)), 0, size[::-1]).astype(int)[::-1]
        inside = _inside(ring - (left, top), (bottom - top, right - left))
        mask[top:bottom, left:right] |= inside
        if not inside.any():
            _draw_outline(ring, mask)
    return mask


def _require_within(ring: Ring, size: Size) -> None:
    out = ~((ring >= -BEYOND) & (ring <= np.array(size[::-1]) + BEYOND))
    if out.any():
        x, y = ring[out.any(axis=1)][0]
        raise ValueError(f"corner ({x:g}, {y:g}) is outside the image of {size[1]} x {size[0]} pixels")


def _inside(ring: Ring, size: Size) -> Mask:
    """Each edge turns over all pixels of its rows whose centres lie to the right of it."""
    height, width = size
    ends = np.stack([ring, np.roll(ring, -1, axis=0)], axis=1)  # (N, 2, 2): edge, end, x and y
    down = ends[:, 0, 1] <= ends[:, 1, 1]
    ends = np.where(down[:, None, None], ends, ends[:, ::-1])  # downwards: a shared edge is crossed alike
    first, last = np.clip(np.ceil(ends[..., 1] - 0.5), 0, height).astype(np.int64).T
    counts = last - first
    edges = np.repeat(np.arange(len(ring)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    (x0, y0), (x1, y1) = ends[edges, 0].T, ends[edges, 1].T
    crossing = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    turns = np.zeros((height, width + 1), dtype=bool)
    np.logical_xor.at(turns, (rows, columns), True)
    inside: Mask = np.logical_xor.accumulate(turns, axis=1)[:, :width]
    return inside


def _draw_outline(ring: Ring, mask: Mask) -> None:
    from skimage.draw import line

    inwards = ring + INWARDS * (ring.mean(axis=0) - ring)
    cells = np.clip(np.floor(inwards), 0, np.array(mask.shape[::-1]) - 1).astype(np.int64)
    for (x0, y0), (x1, y1) in zip(cells, np.roll(cells, -1, axis=0), strict=True):
        mask[line(y0, x0, y1, x1)] = True
