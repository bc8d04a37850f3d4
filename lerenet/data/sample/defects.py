"""Families of defects: each draws one specimen's mask and changes the surface under it.

A defect takes a generator and a surface (float64, about 0 to 1) and gives the changed surface and
the mask (bool). Contrast, size, number and direction vary; some are faint, some tiny.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import disk, line

from lerenet.data.sample.textures import Field, brushed, grid, noise

Mask = NDArray[np.bool_]
Defect = Callable[[np.random.Generator, Field], tuple[Field, Mask]]


def _blob(rng: np.random.Generator, shape: tuple[int, int], area: float, roughness: float = 0.5) -> Mask:
    """One irregular region that covers about ``area`` (share) of the image."""
    height, width = shape
    rows, columns = grid(height, width)
    centre = rng.uniform(0.25, 0.75, 2) * shape
    stretch = rng.uniform(0.6, 1.6)
    distance = np.hypot((rows - centre[0]) * stretch, (columns - centre[1]) / stretch)
    radius = np.sqrt(area * height * width / np.pi)
    field = distance / radius + roughness * 0.4 * noise(rng, height, width, max(2.0, radius / 3))
    mask = field <= np.quantile(field, min(0.6, area))
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept: Mask = labels == sizes.argmax()
    return kept


def _walk(rng: np.random.Generator, shape: tuple[int, int], steps: int, length: float, bend: float) -> Mask:
    """A connected path of ``steps`` straight pieces."""
    mask = np.zeros(shape, dtype=bool)
    point, angle = rng.uniform(0.2, 0.8, 2) * shape, rng.uniform(0, 2 * np.pi)
    for _ in range(steps):
        angle += rng.normal(0, bend)
        target = np.clip(point + length * np.array([np.sin(angle), np.cos(angle)]), 1, np.array(shape) - 2)
        rows, columns = line(*(int(value) for value in (*point, *target)))
        mask[rows, columns] = True
        point = target
    return mask


def _soft(mask: Mask, blur: float) -> Field:
    soft: Field = ndimage.gaussian_filter(mask.astype(np.float64), blur)
    return soft


def noise_like(rng: np.random.Generator, surface: Field, scale: float) -> Field:
    """`noise` of the surface's shape."""
    return noise(rng, surface.shape[0], surface.shape[1], scale)


def _sign(rng: np.random.Generator, bright: float) -> float:
    return 1.0 if rng.random() < bright else -1.0


def scratch(rng: np.random.Generator, surface: Field) -> tuple[Field, Mask]:
    """One to three long thin scratches, bright or dark."""
    mask = np.zeros(surface.shape, dtype=bool)
    for _ in range(int(rng.integers(1, 4))):
        path = _walk(rng, surface.shape, int(rng.integers(3, 8)), rng.uniform(14, 30), 0.15)
        mask |= ndimage.binary_dilation(path, iterations=int(rng.integers(1, 3)))
    return surface + _sign(rng, 0.7) * rng.uniform(0.12, 0.3) * _soft(mask, 0.7), mask


def pits(rng: np.random.Generator, surface: Field) -> tuple[Field, Mask]:
    """A few small dark holes, each with a light rim."""
    mask = np.zeros(surface.shape, dtype=bool)
    for _ in range(int(rng.integers(2, 9))):
        centre = rng.uniform(0.1, 0.9, 2) * surface.shape
        rows, columns = disk((float(centre[0]), float(centre[1])), rng.uniform(2.5, 7), shape=surface.shape)
        mask[rows, columns] = True
    rim = ndimage.binary_dilation(mask, iterations=2) & ~mask
    return surface - rng.uniform(0.15, 0.3) * _soft(mask, 1) + 0.1 * _soft(rim, 0.8), mask


def stain(rng: np.random.Generator, surface: Field) -> tuple[Field, Mask]:
    """A translucent drop mark with a darker border."""
    mask = _blob(rng, surface.shape, rng.uniform(0.02, 0.16), 0.4)
    border = mask & ~ndimage.binary_erosion(mask, iterations=3)
    depth = rng.uniform(0.06, 0.16)
    return surface - depth * _soft(mask, 2) - 0.8 * depth * _soft(border, 1), mask


def chipped_edge(rng: np.random.Generator, surface: Field) -> tuple[Field, Mask]:
    """A piece broken out of one border: rough and bright inside."""
    height, width = surface.shape
    rows, columns = grid(height, width)
    side, along = int(rng.integers(4)), rng.uniform(0.2, 0.8)
    depth = [rows, height - 1 - rows, columns, width - 1 - columns][side]
    across, extent = (columns, width) if side < 2 else (rows, height)
    reach = rng.uniform(0.08, 0.22) * extent
    profile = rng.uniform(8, 34) * np.exp(-(((across - along * extent) / reach) ** 2))
    mask = depth < profile + 3 * noise(rng, height, width, 3) - 2
    mask &= profile > 2
    return np.where(mask, 0.62 + 0.1 * noise(rng, height, width, 1.5), surface), mask


def patch(rng: np.random.Generator, surface: Field) -> tuple[Field, Mask]:
    """Large ragged areas of another tone."""
    mask = _blob(rng, surface.shape, rng.uniform(0.08, 0.3), 1.0)
    if rng.random() < 0.5:
        mask |= _blob(rng, surface.shape, rng.uniform(0.03, 0.12), 1.0)
    tone = _sign(rng, 0.35) * rng.uniform(0.1, 0.22)
    return surface + tone * _soft(mask, 1.2) * (1 + 0.3 * noise_like(rng, surface, 2)), mask


def crack(rng: np.random.Generator, surface: Field) -> tuple[Field, Mask]:
    """A branching dark crack."""
    mask = _walk(rng, surface.shape, int(rng.integers(10, 22)), 9, 0.5)
    for _ in range(int(rng.integers(0, 3))):
        mask |= _walk(rng, surface.shape, int(rng.integers(5, 10)), 7, 0.6)
    mask = ndimage.binary_dilation(mask, iterations=int(rng.integers(1, 3)))
    return surface - rng.uniform(0.2, 0.4) * _soft(mask, 0.7), mask


def missing_paint(rng: np.random.Generator, surface: Field) -> tuple[Field, Mask]:
    """Paint gone in sharp-edged areas; the brushed metal shows."""
    mask = _blob(rng, surface.shape, rng.uniform(0.015, 0.14), 1.2)
    bare = brushed(rng, surface.shape[0], surface.shape[1]) + rng.uniform(0.1, 0.25)
    edge = mask & ~ndimage.binary_erosion(mask, iterations=1)
    return np.where(mask, bare, surface) - 0.15 * edge, mask


def _relief(rng: np.random.Generator, surface: Field, height_sign: float) -> tuple[Field, Mask]:
    mask = _blob(rng, surface.shape, rng.uniform(0.02, 0.12), 0.15)
    depth = ndimage.distance_transform_edt(mask)
    dome = np.sqrt(depth / max(1.0, float(depth.max())))
    slope_down, slope_right = np.gradient(ndimage.gaussian_filter(dome, 3))
    angle = rng.uniform(0, 2 * np.pi)
    shade = slope_down * np.sin(angle) + slope_right * np.cos(angle)
    return surface + height_sign * rng.uniform(3.0, 5.5) * shade, mask


def bulge(rng: np.random.Generator, surface: Field) -> tuple[Field, Mask]:
    """A convexity: light on one side, shadow on the other."""
    return _relief(rng, surface + 0.0, 1.0)


def dent(rng: np.random.Generator, surface: Field) -> tuple[Field, Mask]:
    """A concavity that flattens the ridges under it."""
    shaded, mask = _relief(rng, surface, -1.0)
    smooth = ndimage.gaussian_filter(shaded, 4)
    soft = _soft(mask, 2)
    return shaded * (1 - 0.7 * soft) + smooth * 0.7 * soft - 0.06 * soft, mask


def inclusion(rng: np.random.Generator, surface: Field) -> tuple[Field, Mask]:
    """Elongated dark flecks along the rolling direction."""
    mask = np.zeros(surface.shape, dtype=bool)
    rows, columns = grid(surface.shape[0], surface.shape[1])
    for _ in range(int(rng.integers(1, 5))):
        centre, half = rng.uniform(0.15, 0.85, 2) * surface.shape, (rng.uniform(12, 45), rng.uniform(2, 5))
        wobble = 0.35 * noise_like(rng, surface, 4)
        mask |= np.hypot((rows - centre[0]) / half[0], (columns - centre[1]) / half[1]) + wobble < 1
    return surface - rng.uniform(0.15, 0.32) * _soft(mask, 0.9), mask


def fray(rng: np.random.Generator, surface: Field) -> tuple[Field, Mask]:
    """The weave undone in a strip: pattern lost, loose bright ends."""
    height, width = surface.shape
    rows, columns = grid(height, width)
    angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.2, 0.2) * width
    across = (rows - height / 2) * np.sin(angle) + (columns - width / 2) * np.cos(angle) - offset
    along = (rows - height / 2) * np.cos(angle) - (columns - width / 2) * np.sin(angle)
    ragged = rng.uniform(7, 20) + 5 * noise(rng, height, width, 4)
    mask = (np.abs(across) < ragged) & (np.abs(along) < rng.uniform(0.2, 0.5) * min(height, width))
    loose = 0.55 + 0.16 * noise(rng, height, width, (1, 3))
    return np.where(mask, loose, surface), mask


def corrosion(rng: np.random.Generator, surface: Field) -> tuple[Field, Mask]:
    """Clustered spots that grow together."""
    spread = _soft(_blob(rng, surface.shape, rng.uniform(0.08, 0.25), 0.8), 8)
    spots = noise_like(rng, surface, 2.5) + 2.2 * spread / max(1e-9, float(spread.max()))
    mask = ndimage.binary_opening(spots > 2.3, iterations=1)
    if not mask.any():
        mask = spots >= np.quantile(spots, 0.995)
    grain = 0.05 * noise_like(rng, surface, 1) * mask
    return surface - rng.uniform(0.14, 0.26) * _soft(mask, 1) + grain, mask
