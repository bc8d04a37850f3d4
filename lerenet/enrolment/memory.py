"""Descriptors of a class's examples, thinned to a budget: a thousand examples cost no more to ask than a few.

An image gives l places, each with a descriptor of c numbers (`lerenet.models.descriptors.stacked`). A place that more
than half belongs to the defect is foreground, one that holds none of it background; what lies between, or holds a pixel
to ignore, is neither.
Places are thinned by greedy k-centre selection (Gonzalez 1985; for memories of descriptors: Roth et al., PatchCore,
2022), which keeps the rare ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lerenet.models.descriptors import NEAREST, full, unit
from lerenet.seeds import generator

BUDGET = 2000  # places of each kind that are kept
AHEAD = 8  # budgets of places that wait before they are thinned: no class is held whole
PROJECTED = 64  # numbers of a descriptor by which k-centre selection compares


@dataclass(frozen=True)
class Memory:
    """Places of one class, each with the image that it is of.

    Attributes:
        foreground: (n, c).
        background: (m, c).
        good: of defect-free images, (g, c); g is 0 where none were given.
        foreground_from, background_from: number of the example that each is of, (n,) and (m,).
        good_from: number of the defect-free image that each is of, (g,).
        sums: sum of all descriptors of each example, kept or not, (K, c).
        counts: how many those are, (K,).
    """

    foreground: Tensor
    background: Tensor
    good: Tensor
    foreground_from: Tensor
    background_from: Tensor
    good_from: Tensor
    sums: Tensor
    counts: Tensor

    def only(self, examples: Tensor, good: Tensor) -> Memory:
        """A whole memory as if only some images had been given, (K,) and (G,) of true and false."""
        near, far, clean = (
            chosen[origin]
            for chosen, origin in (
                (examples, self.foreground_from),
                (examples, self.background_from),
                (good, self.good_from),
            )
        )
        return Memory(
            self.foreground[near], self.background[far], self.good[clean],
            self.foreground_from[near], self.background_from[far], self.good_from[clean],
            self.sums[examples], self.counts[examples],
        )  # fmt: skip

    def to(self, device: torch.device) -> Memory:
        """The memory on a device."""
        return Memory(**{name: getattr(self, name).to(device) for name in TENSORS})


TENSORS = tuple(field.name for field in fields(Memory))


def remember(
    descriptors: Tensor,
    shares: Tensor,
    good: Tensor | None = None,
    budget: int = BUDGET,
    folds: tuple[Sequence[int], Sequence[int]] | None = None,
    of: tuple[Sequence[int], Sequence[int]] | None = None,
) -> Memory:
    """The memory of examples, each of one square or of several.

    Args:
        descriptors: of the squares, (T, c, l).
        shares: share of each place that is defect, (T, l); negative where it counts as nothing.
        good: descriptors of defect-free squares, (G, c, l).
        budget: most places of each kind.
        folds: of the squares, and of the good ones. Each fold's places are thinned apart, to an equal part of the
            budget, so that a memory without a fold (`Memory.only`) was not thinned by what it lacks.
        of: number of the image that each square is of, from 0; by itself each is an image.
    """
    squares, _, places = descriptors.shape
    clean = descriptors[:0] if good is None else good
    own, others = ([0] * squares, [0] * len(clean)) if folds is None else folds
    given = (range(squares), range(len(clean))) if of is None else of
    device = descriptors.device
    number, number_good = (torch.as_tensor(list(part), dtype=torch.long, device=device) for part in given)
    near, near_from = _kept(descriptors, _foreground(full(shares), number), budget, own)
    far, far_from = _kept(descriptors, shares == 0, budget, own)
    alike, alike_from = _kept(clean, clean.new_ones(len(clean), places, dtype=torch.bool), budget, others)
    examples = int(number.max()) + 1 if squares else 0
    sums = full(descriptors[:1, :, 0]).new_zeros(examples, descriptors.shape[1])
    for square, image in enumerate(number.tolist()):
        sums[image] += full(descriptors[square]).sum(1)
    counts = torch.bincount(number, minlength=examples) * places
    return Memory(
        near, far, alike, number[near_from], number[far_from], number_good[alike_from], sums, counts
    )


def _foreground(shares: Tensor, image: Tensor) -> Tensor:
    """Places (T, l) that more than half belongs to the defect; of an image without one, those of its largest share.

    As `lerenet.models.descriptors.split_positions`, but by image: a square that a mask barely enters has none.
    """
    certain = shares > 0.5
    count = int(image.max()) + 1 if len(image) else 0
    largest = shares.new_zeros(count).scatter_reduce(0, image, shares.amax(1), "amax")
    found = torch.zeros(count, dtype=torch.bool, device=shares.device)
    found[image[certain.any(1)]] = True
    best = (shares >= largest[image, None]) & (shares > 0) & ~found[image, None]
    return certain | best


def _kept(descriptors: Tensor, wanted: Tensor, budget: int, folds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The wanted places (T, l) of the squares (T, c, l), thinned as they come, (n, c) and their squares (n,)."""
    parts = [_thinned(descriptors, wanted, 0, [])]
    for fold in sorted(set(folds)):
        images = [image for image, own in enumerate(folds) if own == fold]
        parts.append(_thinned(descriptors, wanted, budget // len(set(folds)), images))
    vectors, origin = zip(*parts, strict=True)
    return torch.cat(vectors), torch.cat(origin)


def _thinned(
    descriptors: Tensor, wanted: Tensor, budget: int, images: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The wanted places of some of the images, at most so many."""
    vectors = full(descriptors[:0, :, 0])
    origin = torch.zeros(0, dtype=torch.long, device=descriptors.device)
    for number, image in enumerate(images, 1):
        new = full(descriptors[image]).T[wanted[image]]
        vectors = torch.cat([vectors, new])
        origin = torch.cat([origin, origin.new_full((len(new),), image)])
        if len(vectors) > (AHEAD * budget if number < len(images) else budget):
            kept = k_centres(vectors, budget)
            vectors, origin = vectors[kept], origin[kept]
    return vectors, origin


def k_centres(vectors: Tensor, count: int) -> Tensor:
    """Indices (count,) of rows (n, c), all different: the farthest from those already taken, again and again.

    Distances are taken after a random projection, which keeps them within some percent.
    """
    side = vectors.shape[1]
    if side > PROJECTED:
        drawn = generator(0, "k-centre", side).standard_normal((side, PROJECTED)) / PROJECTED**0.5
        vectors = vectors @ torch.as_tensor(drawn, dtype=vectors.dtype, device=vectors.device)
    squares = vectors.square().sum(1)
    distance = (vectors - vectors.mean(0)).square().sum(1)  # (n,), of the first: how far it is from the mean
    centres = torch.empty(count, dtype=torch.long, device=vectors.device)
    for place in range(count):
        centres[place] = taken = distance.argmax()
        near = (
            torch.addmv(squares, vectors, vectors[taken], alpha=-2) + squares[taken]
        )  # |a|^2 - 2 a b + |b|^2
        distance = near if place == 0 else torch.minimum(distance, near)
        distance[taken] = float("-inf")  # rounding may leave it a little above 0
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
    mean = (query.sum(2) + memory.sums.sum(0)) / (query.shape[2] + memory.counts.sum())  # (B, c)
    own = unit(query - mean[:, :, None], 1).transpose(1, 2)  # (B, l, c)
    kinds = (memory.foreground, memory.background, memory.good)
    near, far, good = (_nearest(own, places, mean) for places in kinds)
    return near, far, good


def _nearest(own: Tensor, places: Tensor, mean: Tensor) -> Tensor:
    if not len(places):
        return own.new_full(own.shape[:2], -1.0)
    other = unit(places[None] - mean[:, None], 2)  # (B, n, c)
    cosine = own @ other.transpose(1, 2)  # (B, l, n)
    return cosine.topk(min(NEAREST, len(places)), dim=2).values.mean(2)
