"""Global edge information at the picture's own resolution: a guided filter (He, Sun and Tang, 2013).

A head's logits live on a coarse grid and come back to pixels by bilinear interpolation, which knows nothing of
outlines. In every window the filter explains them as a linear function of the grey picture, so where the picture
has an edge they get one, and where it has none they stay smooth. Nothing is learned.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

RADIUS = 4  # pixels; a window is 9 x 9
EPSILON = 1e-4  # variance of grey (0 to 1) below which a window counts as flat


def follow_edges(logits: Tensor, pictures: Tensor) -> Tensor:
    """Logits (B, H, W) smoothed along the edges of their pictures (B, 3, H, W) in [0, 1] -> (B, H, W)."""
    guide, values = pictures.mean(1, keepdim=True), logits[:, None]  # (B, 1, H, W)
    products = torch.cat([guide, values, guide * guide, guide * values], dim=1)
    grey, mean, square, both = _window_means(products).chunk(4, dim=1)
    slope = (both - grey * mean) / (square - grey * grey + EPSILON)
    slope, offset = _window_means(torch.cat([slope, mean - slope * grey], dim=1)).chunk(2, dim=1)
    return (slope * guide + offset)[:, 0]


def _window_means(maps: Tensor) -> Tensor:
    """(B, c, H, W) -> the mean of each pixel's window, of the part inside the picture: rows, then columns."""
    for size in ((2 * RADIUS + 1, 1), (1, 2 * RADIUS + 1)):
        padding = (size[0] // 2, size[1] // 2)
        maps = F.avg_pool2d(maps, size, stride=1, padding=padding, count_include_pad=False)
    return maps
