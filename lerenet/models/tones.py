"""Global edge information at the picture's own resolution, second part: what the query's own tones tell.

Descriptors say roughly where a defect is; whether it is darker or brighter than its surroundings, nobody told
them. The query does: its tones inside what is marked and outside are counted, and each pixel's tone is
evidence for the side on which it is the more frequent (a naive Bayes classifier of one picture, taught by the
head's own answer). Nothing is learned from other pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lerenet.models.guided import follow_edges, window_means

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
