"""Global edge information at the picture's own resolution: its edges, and its tones. Nothing is learned.

A head's logits live on a coarse grid and come back to pixels by bilinear interpolation, which knows nothing of
outlines. A guided filter (He, Sun and Tang, 2013) explains them in every window as a linear function of the grey
picture, so where the picture has an edge they get one, and where it has none they stay smooth.

Descriptors say roughly where a defect is; whether it is darker or brighter than its surroundings, nobody told
them. The query does: its tones inside what is marked and outside are counted, and each pixel's tone is
evidence for the side on which it is the more frequent (a naive Bayes classifier of one picture, taught by the
head's own answer). Nothing is learned from other pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor

RADIUS = 6  # pixels; a window is 13 x 13
EPSILON = 1e-4  # variance of grey (0 to 1) below which a window counts as flat
BINS = 16  # of tones, from the picture's darkest to its brightest
AROUND = 4  # a quarter of a picture's side, to each side: the surroundings that a tone is compared with
PRIOR = 0.03  # of a picture's pixels, added to both counts: a few marked pixels prove little
WEIGHT = 0.4  # of the evidence, beside logits of mean size 1
FINE = 3  # pixels: the radius of the filter that follows the edges once more


def refine(logits: Tensor, pictures: Tensor) -> Tensor:
    """Logits (B, H, W) and their pictures (B, 3, H, W) in [0, 1] -> logits along edges and tones, (B, H, W)."""
    edged = follow_edges(logits, pictures)
    size = edged.abs().mean((1, 2), keepdim=True)
    return follow_edges(edged + WEIGHT * size * tone_evidence(edged > 0, pictures), pictures, FINE)


def tone_evidence(marked: Tensor, pictures: Tensor) -> Tensor:
    """Log of how much more frequent each pixel's tone is where the picture is marked.

    A tone is the grey value minus the mean of its surroundings. With n_t and m_t pixels of tone t marked and
    unmarked, of n and m, both counts begin with p = `PRIOR` times what all pixels N of the picture have of it:
    log((n_t + p (n_t + m_t)) / (n + p N)) - log((m_t + p (n_t + m_t)) / (m + p N)). Nothing marked: 0 everywhere.

    Args:
        marked: (B, H, W), true or false.
        pictures: (B, 3, H, W) in [0, 1].

    Returns:
        (B, H, W).
    """
    with torch.autocast(marked.device.type, enabled=False):
        grey = pictures.mean(1)  # (B, H, W)
        tones = (grey - window_means(grey, grey.shape[-1] // AROUND)).flatten(1)
        low, high = tones.amin(1, keepdim=True), tones.amax(1, keepdim=True)
        place = (tones - low) / (high - low).clamp_min(1e-6) * (BINS - 1)  # (B, H W)
        bins = torch.arange(BINS, dtype=place.dtype, device=place.device)
        member = (1 - (place[:, :, None] - bins).abs_()).clamp_min_(0)  # (B, H W, BINS), in two bins each
        weights = torch.stack([marked.flatten(1), ~marked.flatten(1)], dim=1).to(place.dtype)  # (B, 2, H W)
        counts = weights @ member  # (B, 2, BINS)
        counts = counts + PRIOR * counts.sum(1, keepdim=True)
        chances = counts / counts.sum(2, keepdim=True)
        inside, outside = chances.clamp_min(1e-9).log().unbind(1)
        evidence: Tensor = (member @ (inside - outside)[:, :, None])[:, :, 0]
        return evidence.view_as(grey)


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
