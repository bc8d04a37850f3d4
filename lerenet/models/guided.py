"""Global edge information at the picture's own resolution: a guided filter (He, Sun and Tang, 2013).

A head's logits live on a coarse grid and come back to pixels by bilinear interpolation, which knows nothing of
outlines. In every window the filter explains them as a linear function of the grey picture, so where the picture
has an edge they get one, and where it has none they stay smooth. Nothing is learned.
"""

from __future__ import annotations

import torch
from torch import Tensor

RADIUS = 6  # pixels; a window is 13 x 13
EPSILON = 1e-4  # variance of grey (0 to 1) below which a window counts as flat


def follow_edges(logits: Tensor, pictures: Tensor, radius: int = RADIUS) -> Tensor:
    """Logits (B, H, W) smoothed along the edges of their pictures (B, 3, H, W) in [0, 1] -> (B, H, W)."""
    with torch.autocast(logits.device.type, enabled=False):  # variances need single precision
        guide, values = pictures.mean(1, keepdim=True), logits[:, None]  # (B, 1, H, W)
        products = torch.cat([guide, values, guide * guide, guide * values], dim=1)
        grey, mean, square, both = window_means(products, radius).chunk(4, dim=1)
        slope = (both - grey * mean) / (square - grey * grey + EPSILON)
        lines = torch.cat([slope, mean - slope * grey], dim=1)
        slope, offset = window_means(lines, radius).chunk(2, dim=1)
        return (slope * guide + offset)[:, 0]


def window_means(maps: Tensor, radius: int) -> Tensor:
    """Maps (..., H, W) -> each pixel's mean over the 2 radius + 1 squared around it, of the part inside the map."""
    rows, columns = (_averaging(side, radius, maps) for side in maps.shape[-2:])
    return rows @ maps @ columns.T


def _averaging(side: int, radius: int, like: Tensor) -> Tensor:
    """The matrix (side, side) that takes the mean of each window of a line, of the part inside the picture."""
    place = torch.arange(side, device=like.device)
    near = ((place[:, None] - place).abs() <= radius).to(like.dtype)
    return near / near.sum(1, keepdim=True)
