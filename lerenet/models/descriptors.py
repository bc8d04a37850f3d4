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

from lerenet.models.segmenter import weighted_mean

NEAREST = 3
ABSENT = -2.0  # below any cosine


def full(value: Tensor) -> Tensor:
    """At least single precision: cosines in half precision lose the third digit that matching needs."""
    return value if value.dtype == torch.float64 else value.float()


def unit(value: Tensor, dim: int) -> Tensor:
    """Vectors along ``dim`` brought to length 1; zero stays zero. Faster than `F.normalize` off the last axis."""
    return value * value.square().sum(dim, keepdim=True).clamp_min(1e-24).rsqrt()


def centred(query: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
    """Descriptors (B, c, l_q) and (B, c, l_s), minus their common mean, of unit length."""
    query, support = full(query), full(support)
    count = query.shape[2] + support.shape[2]
    mean = (query.sum(2, keepdim=True) + support.sum(2, keepdim=True)) / count  # (B, c, 1)
    return unit(query - mean, 1), unit(support - mean, 1)


def split_positions(shares: Tensor) -> tuple[Tensor, Tensor]:
    """Foreground and background positions (B, K l) of the masks' shares (B, K, l).

    Foreground holds more than half a cell of defect; where no cell of a shot does (a tiny or thin
    defect), the cells with its largest share. Background holds none at all.
    """
    foreground = shares > 0.5
    largest = (shares >= shares.amax(2, keepdim=True)) & (shares > 0)
    foreground = torch.where(foreground.any(2, keepdim=True), foreground, largest)
    return foreground.flatten(1), (shares <= 0).flatten(1)


def nearest_mean(similarity: Tensor, allowed: Tensor, nearest: int = NEAREST) -> Tensor:
    """Mean of the ``nearest`` largest similarities (B, l_q, l_s) over ``allowed`` (B, l_s) -> (B, l_q).

    Fewer allowed positions than ``nearest``: the mean over those there are; none: 0.
    """
    masked = similarity if bool(allowed.all()) else similarity.masked_fill(~allowed[:, None], ABSENT)
    top = masked.topk(min(nearest, similarity.shape[2]), dim=2).values  # (B, l_q, nearest)
    there = top > ABSENT / 2
    return (top * there).sum(2) / there.sum(2).clamp_min(1)


def columns(similarity: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """The allowed columns of (B, l_q, l_s) alone, padded to the most of the batch, and which are real, (B, n)."""
    index, real = first_allowed(allowed)
    return similarity.gather(2, index[:, None].expand(-1, similarity.shape[1], -1)), real


def first_allowed(allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (B, n) of the allowed (B, l), n the most that one of the batch has, and which are real, (B, n)."""
    count = max(1, int(allowed.sum(1).max()))
    index = allowed.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count]
    return index, allowed.gather(1, index)


def similarity_to(rows: Tensor, support: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines (B, l_q, n) to the allowed support positions alone, and which of the n are real, (B, n).

    The few foreground positions are gathered before they are compared; n is the most that one of the
    batch has, and what is short of it is padded.
    """
    index, real = first_allowed(allowed)
    chosen = support.gather(2, index[:, None].expand(-1, support.shape[1], -1))  # (B, c, n)
    return torch.bmm(rows, chosen).to(support.dtype), real


def relation_maps(query: Tensor, support: Tensor, shares: Tensor) -> Tensor:
    """D_cos in the form a network can read.

    Args:
        query: centred descriptors (B, c, l_q).
        support: centred descriptors (B, c, K l).
        shares: share of foreground at each support position (B, K, l).

    Returns:
        (B, 4, l_q): nearest foreground, nearest background, their difference, prototype.
    """
    rows = query.transpose(1, 2)  # (B, l_q, c)
    near, far = (nearest_mean(*similarity_to(rows, support, allowed)) for allowed in split_positions(shares))
    prototype = F.normalize(weighted_mean(support, shares.flatten(1)), dim=1)  # (B, c)
    like = torch.einsum("bc,bcl->bl", prototype, query).to(query.dtype)
    return torch.stack([near, far, near - far, like], dim=1)


def relate(query: Tensor, support: Tensor, shares: Tensor, concat: bool = True) -> tuple[Tensor, Tensor]:
    """Relation maps of a query to K shots; under autocast only the products are of lower precision.

    Args:
        query: descriptors (B, c, l).
        support: descriptors (B, K, c, l).
        shares: share of foreground at each support position (B, K, l).
        concat: True: all K l positions are one set; False: each shot under its own mask gives its
            maps, and the maps are averaged.

    Returns:
        Maps (B, 4, l), and the query's centred descriptors of unit length (B, c, l).
    """
    if concat or support.shape[1] == 1:
        own, other = centred(query, support.transpose(1, 2).flatten(2))
        return relation_maps(own, other, full(shares)), own
    batch, shots = support.shape[:2]
    own, other = centred(query.repeat_interleave(shots, dim=0), support.flatten(0, 1))
    maps = relation_maps(own, other, full(shares).flatten(0, 1)[:, None])  # (B K, 4, l)
    own = unit(own.unflatten(0, (batch, shots)).mean(1), 1)
    return maps.unflatten(0, (batch, shots)).mean(1), own


def strength(query: Tensor, support: Tensor, shares: Tensor) -> Tensor:
    """How far each query place stands out, as a share of how far the support's defect does.

    Both are distances from the mean of the query's and the support's mean descriptor.

    Args:
        query: descriptors (B, c, l).
        support: descriptors (B, K, c, l).
        shares: share of foreground at each support position (B, K, l).

    Returns:
        (B, l), at most 4.
    """
    query, other = full(query), full(support).transpose(1, 2).flatten(2)  # (B, c, l), (B, c, K l)
    mean = (query.mean(2, keepdim=True) + other.mean(2, keepdim=True)) / 2  # the same however many shots
    foreground = split_positions(full(shares))[0].to(query.dtype)  # (B, K l)
    far = (other - mean).norm(dim=1)
    usual = (far * foreground).sum(1) / foreground.sum(1).clamp_min(1)  # (B,)
    ratio: Tensor = (query - mean).norm(dim=1) / usual.clamp_min(1e-6)[:, None]
    return ratio.clamp_max(4.0)


def stacked(levels: Sequence[Tensor]) -> Tensor:
    """Descriptors of several levels (..., c_i, l) in one (..., sum c_i, l), each level of unit length."""
    return torch.cat([unit(full(level), -2) for level in levels], dim=-2)


def channel_cosine(query: Tensor, support: Tensor) -> Tensor:
    """D_cos as the text of eq. 14 has it: cosines between channels, (B, c, l) twice -> (B, c, c)."""
    with torch.autocast(query.device.type, enabled=False):
        query, support = F.normalize(full(query), dim=2), F.normalize(full(support), dim=2)
        return torch.bmm(query, support.transpose(1, 2))


def aligned_cosine(query: Tensor, support: Tensor) -> Tensor:
    """The authors' D_cos: cosine at the same position, (B, c, l) twice -> (B, 1, l)."""
    return F.cosine_similarity(full(query), full(support), dim=1)[:, None]
