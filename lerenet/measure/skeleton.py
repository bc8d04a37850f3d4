"""The length of a thin shape along its middle, however it bends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

Mask = NDArray[np.bool_]
# Vossepoel and Smeulders (1982): least error of the length of a digital line, by its straight steps, its diagonal ones,
# and the places where one kind follows the other.
STRAIGHT, DIAGONAL, CORNER = 0.980, 1.406, -0.091


THIN = 3  # times as long as wide


def skeleton_length(mask: Mask) -> float:
    """Length of a thin shape's skeleton (h, w), in pixels, all its branches together; NaN: the shape isn't thin.

    A shape is thin whose area is at least `THIN` squares of its greatest width. At each free end the skeleton stops
    short of the shape's; what is left, the distance to the background, is added. A row of n pixels is about n long, a
    ring as long as its middle circle.

    Args:
        mask: True on one pixel at least.
    """
    padded = np.pad(mask, 1)
    depth = ndimage.distance_transform_edt(padded) - 0.5  # from a pixel's centre to the shape's edge
    if mask.sum() < THIN * (2 * depth.max()) ** 2:
        return float("nan")
    line = np.asarray(skeletonize(padded, method="lee"), bool)
    straight, diagonal = _steps(line)
    corners = ((straight == 1) & (diagonal == 1)).sum()
    length = STRAIGHT * straight.sum() / 2 + DIAGONAL * diagonal.sum() / 2 + CORNER * corners
    ends = np.maximum(2 - straight - diagonal, 0)[line]
    return float(length + (ends * depth[line]).sum())


def _steps(line: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many straight and how many diagonal steps leave each pixel of a line (h, w) with an empty rim.

    A diagonal step is none where two straight ones go the same way.
    """
    straight, diagonal = np.zeros(line.shape, np.int64), np.zeros(line.shape, np.int64)
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        straight += line & np.roll(line, (down, right), (0, 1))
    for down in (-1, 1):
        for right in (-1, 1):
            bend = np.roll(line, down, 0) | np.roll(line, right, 1)
            diagonal += line & np.roll(line, (down, right), (0, 1)) & ~bend
    return straight, diagonal
