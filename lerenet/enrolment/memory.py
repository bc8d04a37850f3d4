"""Descriptors of a class's examples, thinned to a budget: a thousand examples cost no more to ask than a few.

An image gives l places, each with a descriptor of c numbers (`lerenet.models.descriptors.stacked`). A place that more
than half belongs to the defect is foreground, one that holds none of it background (`split_positions`); what lies
between is neither. Places are thinned by greedy k-centre selection (Gonzalez 1985; for memories of descriptors: Roth et
al., PatchCore, 2022), which keeps the rare ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lerenet.models.descriptors import full, nearest_mean, split_positions, unit
from lerenet.seeds import generator

BUDGET = 2000  # places of each kind that are kept
PROJECTED = 64  # numbers of a descriptor by which k-centre selection compares


@dataclass(frozen=True)
class Memory:
    """Places of one class.

    Attributes:
        foreground: (n, c).
        background: (m, c).
        good: of defect-free images, (g, c); g is 0 where none were given.
        good_from: number of the defect-free image that each is of, (g,).
        total: sum of all descriptors of the examples, kept or not, (c,).
        count: how many places that is.
    """

    foreground: Tensor
    background: Tensor
    good: Tensor
    good_from: Tensor
    total: Tensor
    count: int


def remember(descriptors: Tensor, shares: Tensor, good: Tensor | None = None, budget: int = BUDGET) -> Memory:
    """The memory of K examples.

    Args:
        descriptors: (K, c, l).
        shares: share of each place that is defect, (K, l).
        good: descriptors of defect-free images, (G, c, l).
        budget: most places of each kind.
    """
    flat = full(descriptors).transpose(1, 2).flatten(0, 1)  # (K l, c)
    foreground, background = split_positions(full(shares)[None])  # (1, K l)
    parts = (
        flat.new_zeros(0, flat.shape[1]) if good is None else full(good).transpose(1, 2).flatten(0, 1)
    )  # (G l, c)
    kept = chosen(parts, budget)
    return Memory(
        thinned(flat[foreground[0]], budget),
        thinned(flat[background[0]], budget),
        parts[kept],
        kept // descriptors.shape[2],
        flat.sum(0),
        len(flat),
    )


def without_good(memory: Memory, image: int) -> Memory:
    """The memory as if one defect-free image had not been given."""
    others = memory.good_from != image
    return replace(memory, good=memory.good[others], good_from=memory.good_from[others])


def chosen(vectors: Tensor, budget: int) -> Tensor:
    """Which of the rows (n, c) are kept: all, or ``budget`` of them (`k_centres`)."""
    return (
        torch.arange(len(vectors), device=vectors.device)
        if len(vectors) <= budget
        else k_centres(vectors, budget)
    )


def thinned(vectors: Tensor, budget: int) -> Tensor:
    """At most ``budget`` of the rows (n, c); the same ones every time."""
    return vectors[chosen(vectors, budget)]


def k_centres(vectors: Tensor, count: int) -> Tensor:
    """Indices (count,) of rows (n, c): the farthest from those already taken, again and again.

    Distances are taken after a random projection, which keeps them within some percent.
    """
    side = vectors.shape[1]
    if side > PROJECTED:
        drawn = generator(0, "k-centre", side).standard_normal((side, PROJECTED)) / PROJECTED**0.5
        vectors = vectors @ torch.as_tensor(drawn, dtype=vectors.dtype, device=vectors.device)
    distance = (vectors - vectors.mean(0)).square().sum(1)  # (n,), of the first: how far it is from the mean
    centres = torch.empty(count, dtype=torch.long, device=vectors.device)
    for place in range(count):
        centres[place] = distance.argmax()
        near = (vectors - vectors[centres[place]]).square().sum(1)
        distance = near if place == 0 else torch.minimum(distance, near)
    return centres


def similarities(query: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
    """How alike each place of the queries is to what the memory holds: means over the 3 nearest.

    Of one example that is kept whole these are the relations of `lerenet.models.descriptors.relate`.

    Args:
        query: descriptors (B, c, l).

    Returns:
        To foreground, background and good places, (B, l) each; -1 where the memory holds none of a kind.
    """
    query = full(query)
    mean = (query.sum(2) + memory.total) / (query.shape[2] + memory.count)  # (B, c)
    own = unit(query - mean[:, :, None], 1).transpose(1, 2)  # (B, l, c)
    kinds = (memory.foreground, memory.background, memory.good)
    near, far, good = (_nearest(own, places, mean) for places in kinds)
    return near, far, good


def _nearest(own: Tensor, places: Tensor, mean: Tensor) -> Tensor:
    if not len(places):
        return own.new_full(own.shape[:2], -1.0)
    other = unit(places[None] - mean[:, None], 2)  # (B, n, c)
    cosine = own @ other.transpose(1, 2)  # (B, l, n)
    return nearest_mean(cosine, torch.ones_like(cosine[:, 0], dtype=torch.bool))
