"""Length and width of a shape, from the pixels whose centres lie in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

Mask = NDArray[np.bool_]


def extents(mask: Mask) -> tuple[float, float]:
    """Largest Feret diameter and smallest caliper of a shape (h, w), in pixels.

    The **length** is the distance between the two farthest pixels' centres, and one pixel: at each end the shape goes
    on for half a pixel. A row of n pixels is n long.

    The **width** is the smallest distance between two parallel lines that hold the shape. One of the two lies along an
    edge of the convex hull, whose direction (p, q), in smallest whole numbers, has lines of pixel centres every
    1 / |(p, q)| pixels. The width is as many of these spacings as there are such lines from one side to the other, both
    ends counted: the shape's own edge lies half a spacing further out on average. A bar along the rows is as wide as it
    has rows.

    Args:
        mask: True on one pixel at least.
    """
    corners = _hull(mask)
    if len(corners) == 1:
        return 1.0, 1.0
    edges = np.diff(corners, axis=0, append=corners[:1])
    steps = edges // np.gcd(edges[:, 0], edges[:, 1])[:, None]  # (p, q) of each edge
    across = corners @ np.stack(
        [-steps[:, 1], steps[:, 0]]
    )  # (corners, edges): on which line each corner lies
    lines = across.max(0) - across.min(0) + 1
    width = (lines / np.hypot(steps[:, 0], steps[:, 1])).min()
    return float(pdist(corners).max()) + 1, float(width)


def _hull(mask: Mask) -> NDArray[np.int64]:
    """Corners of the convex hull of the pixels' centres in their order; of a line of them its two ends."""
    rows = np.flatnonzero(mask.any(1))
    firsts, lasts = mask[rows].argmax(1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(1)
    begin, end = np.array([rows[0], firsts[0]]), np.array([rows[-1], lasts[-1]])
    points = np.concatenate([np.stack([rows, firsts], 1), np.stack([rows, lasts], 1)])
    step, rest = end - begin, points - begin
    if not (step[0] * rest[:, 1] - step[1] * rest[:, 0]).any():
        return np.unique(np.stack([begin, end]), axis=0)
    return np.asarray(points[ConvexHull(points).vertices])
