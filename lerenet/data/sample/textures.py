"""Surface textures, each a float64 field of a given shape, roughly 0 to 1, from a generator alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float64]
Texture = Callable[[np.random.Generator, int, int], Field]


def noise(rng: np.random.Generator, height: int, width: int, scale: float | tuple[float, float]) -> Field:
    """Gaussian noise smoothed by ``scale`` pixels (down, across), mean 0 and spread 1."""
    field: Field = ndimage.gaussian_filter(rng.standard_normal((height, width)), scale, mode="wrap")
    scaled: Field = (field - field.mean()) / (field.std() + 1e-12)
    return scaled


def grid(height: int, width: int) -> tuple[Field, Field]:
    """Row and column of every pixel."""
    rows, columns = np.mgrid[0:height, 0:width]
    return rows.astype(np.float64), columns.astype(np.float64)


def brushed(rng: np.random.Generator, height: int, width: int) -> Field:
    """Fine lines across."""
    return 0.55 + 0.07 * noise(rng, height, width, (0.6, 25)) + 0.03 * noise(rng, height, width, 0.7)


def rolled(rng: np.random.Generator, height: int, width: int) -> Field:
    """Broad bands down the sheet, with mill grain."""
    bands = noise(rng, height, width, (40, 4))
    return 0.5 + 0.05 * bands + 0.05 * noise(rng, height, width, (6, 0.8))


def cast(rng: np.random.Generator, height: int, width: int) -> Field:
    """Rough skin of several scales."""
    fine, middle = noise(rng, height, width, 0.9), noise(rng, height, width, 3)
    return 0.45 + 0.05 * fine + 0.05 * middle + 0.03 * noise(rng, height, width, 9)


def anodised(rng: np.random.Generator, height: int, width: int) -> Field:
    """Very fine grain under a smooth sheen."""
    return 0.6 + 0.02 * noise(rng, height, width, (0.5, 6)) + 0.04 * noise(rng, height, width, 40)


def magnet(rng: np.random.Generator, height: int, width: int) -> Field:
    """Dark ground tile: grinding marks down, a light edge to one side."""
    _, columns = grid(height, width)
    sheen = columns / width if rng.random() < 0.5 else 1 - columns / width
    return 0.25 + 0.12 * sheen + 0.03 * noise(rng, height, width, (12, 0.6))


def ceramic(rng: np.random.Generator, height: int, width: int) -> Field:
    """Smooth glaze with faint specks."""
    specks = np.clip(noise(rng, height, width, 0.8) - 2.2, 0, None)
    return 0.75 + 0.02 * noise(rng, height, width, 25) - 0.12 * specks


def painted(rng: np.random.Generator, height: int, width: int) -> Field:
    """Even paint with a little dust."""
    return 0.5 + 0.012 * noise(rng, height, width, 0.8) + 0.03 * noise(rng, height, width, 30)


def orange_peel(rng: np.random.Generator, height: int, width: int) -> Field:
    """The bumpy skin of sprayed lacquer."""
    return 0.55 + 0.05 * (noise(rng, height, width, 2.2) - 0.6 * noise(rng, height, width, 5))


def knurled(rng: np.random.Generator, height: int, width: int) -> Field:
    """Two sets of diagonal ridges."""
    rows, columns = grid(height, width)
    pitch = rng.uniform(8, 12)
    ridges = np.abs(np.sin(np.pi * (rows + columns) / pitch)) * np.abs(
        np.sin(np.pi * (rows - columns) / pitch)
    )
    return 0.35 + 0.3 * ridges + 0.03 * noise(rng, height, width, 1)


def woven(rng: np.random.Generator, height: int, width: int) -> Field:
    """Wire mesh: over and under."""
    rows, columns = grid(height, width)
    pitch = rng.uniform(9, 12)
    over = np.sin(2 * np.pi * rows / pitch) * np.sin(2 * np.pi * columns / pitch)
    return 0.5 + 0.14 * over + 0.04 * noise(rng, height, width, (0.8, 2))


def forged(rng: np.random.Generator, height: int, width: int) -> Field:
    """Blotchy scale."""
    return 0.42 + 0.07 * noise(rng, height, width, 6) + 0.04 * noise(rng, height, width, 1.2)


def hot_strip(rng: np.random.Generator, height: int, width: int) -> Field:
    """Grey strip with rolled-in grain, darker in places."""
    return 0.5 + 0.04 * noise(rng, height, width, (2.5, 0.9)) + 0.05 * noise(rng, height, width, 18)
