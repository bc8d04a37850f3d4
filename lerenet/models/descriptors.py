"""Global edge information D_cos (eq. 14) between query and support descriptors.

Descriptors come from frozen features, centred on the mean of the pair and of unit length, so a
relation says how alike two places look, whatever the class. For each query position: the mean
cosine to its 3 nearest foreground descriptors of the support, the same for the background, their
difference, and the cosine to the foreground prototype (eq. 12).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lerenet.models.base import weighted_mean

NEAREST = 3
ABSENT = -2.0  # below any cosine


def centred(query: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
    """Descriptors (B, c, l_q) and (B, c, l_s), minus their common mean, of unit length."""
    query, support = query.float(), support.float()
    count = query.shape[2] + support.shape[2]
    mean = (query.sum(2, keepdim=True) + support.sum(2, keepdim=True)) / count  # (B, c, 1)
    return F.normalize(query - mean, dim=1), F.normalize(support - mean, dim=1)


def split_positions(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Foreground and background positions (B, l) of a mask's shares (B, l).

    Foreground holds more than half a cell of defect; where no cell does (a tiny or thin defect), the
    cells with the largest share. Background holds none at all.
    """
    foreground = weights > 0.5
    largest = (weights >= weights.amax(1, keepdim=True)) & (weights > 0)
    return torch.where(foreground.any(1, keepdim=True), foreground, largest), weights <= 0


def nearest_mean(similarity: Tensor, allowed: Tensor, nearest: int = NEAREST) -> Tensor:
    """Mean of the ``nearest`` largest similarities (B, l_q, l_s) over ``allowed`` (B, l_s) -> (B, l_q).

    Fewer allowed positions than ``nearest``: the mean over those there are; none: 0.
    """
    masked = similarity.masked_fill(~allowed[:, None], ABSENT)
    top = masked.topk(min(nearest, similarity.shape[2]), dim=2).values  # (B, l_q, nearest)
    there = top > ABSENT / 2
    return (top * there).sum(2) / there.sum(2).clamp_min(1)


def relation_maps(query: Tensor, support: Tensor, weights: Tensor) -> Tensor:
    """D_cos in the form a network can read.

    Args:
        query: centred descriptors (B, c, l_q).
        support: centred descriptors (B, c, l_s), l_s = K l.
        weights: share of foreground at each support position (B, l_s).

    Returns:
        (B, 4, l_q): nearest foreground, nearest background, their difference, prototype.
    """
    similarity = torch.bmm(query.transpose(1, 2), support)  # (B, l_q, l_s)
    foreground, background = split_positions(weights)
    near, far = nearest_mean(similarity, foreground), nearest_mean(similarity, background)
    prototype = F.normalize(weighted_mean(support, weights), dim=1)  # (B, c)
    like = torch.einsum("bc,bcl->bl", prototype, query)
    return torch.stack([near, far, near - far, like], dim=1)


def stacked(levels: Sequence[Tensor]) -> Tensor:
    """Descriptors of several levels (B, c_i, l) in one (B, sum c_i, l), each level of unit length."""
    return torch.cat([F.normalize(level.float(), dim=1) for level in levels], dim=1)
