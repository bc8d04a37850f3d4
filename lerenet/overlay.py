"""The mask drawn onto its image: a light tint and a clear outline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

TINT = np.array([255, 80, 0], dtype=np.float32)  # orange, seen on grey metal and by the colour-blind
OUTLINE = np.array([255, 0, 160], dtype=np.uint8)
STRENGTH = 0.3


def draw_overlay(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Image (H, W, 3) with ``mask`` (H, W) tinted and outlined just outside its edge."""
    drawn = image.astype(np.float32)
    drawn[mask] = (1 - STRENGTH) * drawn[mask] + STRENGTH * TINT
    result = drawn.round().astype(np.uint8)
    width = max(1, round(min(mask.shape) / 250))
    result[ndimage.binary_dilation(mask, iterations=width) & ~mask] = OUTLINE
    return result
