"""Pixels to polygons, along the pixels' edges, so that `lerenet.annotations.polygons.fill` gives every pixel back.

Formats know no holes in a polygon: each hole is joined to the outline left of it by a cut of no width.
"""

from __future__ import annotations

import numpy as np

from lerenet.annotations.polygons import Ring
from lerenet.data.scaling import Mask

RIGHT, DOWN, LEFT, UP = range(4)
Edges = list[int]  # 4 * vertex + direction; a vertex is y * (W + 1) + x


def outlines(mask: Mask) -> list[Ring]:
    """A ring for each part of ``mask`` (H, W) whose pixels share edges, with cuts to its holes.

    Rings run clockwise, as one sees them; corners are whole numbers.
    """
    stride = mask.shape[1] + 1
    steps = (1, stride, -1, -stride)
    rings = [_from_leftmost(ring, stride) for ring in _trace(_edges(mask), steps)]
    holes = [ring for ring in rings if ring[0] % 4 == DOWN]
    attached: dict[int, Edges] = {}
    for hole in holes:
        attached[_facing(mask, hole[0], stride)] = hole
    paths: dict[int, list[int]] = {}
    rings.sort(key=lambda ring: (ring[0] // 4) % stride, reverse=True)  # holes before what they are joined to
    for ring in rings:
        path = []
        for edge in ring:
            end = edge // 4 + steps[edge % 4]
            path.append(end)
            if edge in attached:
                path += [attached[edge][0] // 4, *paths.pop(attached[edge][0]), end]
        paths[ring[0]] = path
    return [_corners(np.array(path), stride) for path in paths.values()]


def _edges(mask: Mask) -> np.ndarray:
    """Every edge between a marked pixel and what is not marked, the marked one at its right hand."""
    stride = mask.shape[1] + 1
    padded = np.pad(mask, 1)
    here = padded[1:-1, 1:-1]
    sides = (
        (here & ~padded[:-2, 1:-1], 0, RIGHT), (here & ~padded[1:-1, 2:], 1, DOWN),
        (here & ~padded[2:, 1:-1], stride + 1, LEFT), (here & ~padded[1:-1, :-2], stride, UP),
    )  # fmt: skip
    edges = []
    for open_side, shift, direction in sides:
        rows, columns = np.nonzero(open_side)
        edges.append(4 * (rows * stride + columns + shift) + direction)
    return np.concatenate(edges)


def _trace(edges: np.ndarray, steps: tuple[int, ...]) -> list[Edges]:
    """The closed rings; where two pixels touch at a corner alone, each keeps to its own."""
    left = dict.fromkeys(edges.tolist(), True)
    rings = []
    for start in list(left):
        ring, edge = [], start
        while left[edge]:
            left[edge] = False
            ring.append(edge)
            vertex, direction = edge // 4 + steps[edge % 4], edge % 4
            turns = (4 * vertex + (direction + turn) % 4 for turn in (1, 0, 3))
            edge = next(turn for turn in turns if turn in left)
        if ring:
            rings.append(ring)
    return rings


def _from_leftmost(ring: Edges, stride: int) -> Edges:
    """A ring that begins with the upper of its leftmost upright edges: downwards it is a hole's, upwards an outline."""
    upright = [place for place, edge in enumerate(ring) if edge % 2]
    first = min(upright, key=lambda place: ((ring[place] // 4) % stride, ring[place] // 4))
    return ring[first:] + ring[:first]


def _facing(mask: Mask, edge: int, stride: int) -> int:
    """The edge that one meets first, going left in the row of pixels beside a hole's leftmost edge."""
    row, column = divmod(edge // 4, stride)
    empty = np.flatnonzero(~mask[row, :column])
    start = int(empty[-1]) + 1 if len(empty) else 0
    return 4 * ((row + 1) * stride + start) + UP


def _corners(path: np.ndarray, stride: int) -> Ring:
    """The vertices at which a path turns, as x and y."""
    points = np.stack([path % stride, path // stride], axis=1)
    heading = np.sign(np.roll(points, -1, axis=0) - points)
    turns = (heading != np.roll(heading, 1, axis=0)).any(axis=1)
    return np.asarray(points[turns], dtype=np.float64)
