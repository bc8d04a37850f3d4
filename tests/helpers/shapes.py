"""Shapes of known size, drawn as a camera's pixels see them: marked where the pixel's centre lies inside."""

from __future__ import annotations

import numpy as np

Offset = tuple[float, float]


def grid(size: int, middle: Offset) -> tuple[np.ndarray, np.ndarray]:
    """x to the right and y upwards of each pixel's centre, from the middle of a square picture, moved by ``middle``."""
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return columns - middle[0], -rows - middle[1]


def bar(length: float, width: float, degrees: float, middle: Offset = (0.0, 0.0)) -> np.ndarray:
    x, y = grid(int(length + width) + 12, middle)
    angle = np.radians(degrees)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (abs(along) < length / 2) & (abs(across) < width / 2)


def ellipse(length: float, width: float, degrees: float, middle: Offset = (0.0, 0.0)) -> np.ndarray:
    x, y = grid(int(length) + 12, middle)
    angle = np.radians(degrees)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (2 * along / length) ** 2 + (2 * across / width) ** 2 < 1


def ring(outer: float, inner: float, middle: Offset = (0.0, 0.0)) -> np.ndarray:
    x, y = grid(int(outer) + 12, middle)
    return (np.hypot(x, y) < outer / 2) & (np.hypot(x, y) >= inner / 2)
