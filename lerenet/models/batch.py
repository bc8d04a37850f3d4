"""A batch of episodes as a network reads it, and the one function that builds it, whatever gives the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from lerenet.cells import View

Beside = Literal["masked", "normal"]  # what a network may read of the support beside its levels and masks


class FeatureSource(Protocol):
    """Where features and masks come from: the cache, the memory of a backbone in training, or pictures given."""

    def features(self, views: Sequence[View], levels: Sequence[int], masked: bool = False) -> list[Tensor]:
        """(n, c, h, w) for each level; ``masked``: of the images with all but the defect blacked out."""

    def normal(self, view: View) -> View | None:
        """A defect-free image of the same class, if there is one."""

    def masks(self, views: Sequence[View]) -> Tensor:
        """(n, H, W) in {0, 1}."""

    def pictures(self, views: Sequence[View]) -> Tensor:
        """(n, 3, H, W) in [0, 1]."""


class LabelledSource(FeatureSource, Protocol):
    """A source whose queries' masks are known."""

    def truth(self, views: Sequence[View]) -> Tensor:
        """(n, H, W) in {0, 1}, and negative where a pixel counts as nothing."""


class Reader(Protocol):
    """What a network says about what it reads."""

    levels: tuple[int, ...]
    reads: tuple[Beside, ...]


@dataclass(frozen=True)
class Support:
    """K supports of each of B episodes.

    Attributes:
        levels: features, (B, K, c, h, w) each.
        masks: (B, K, H, W) in {0, 1}.
        masked: features of the support images with all but the defect blacked out, (B, K, c, h, w) each.
        normal: features of a defect-free image, (B, c, h, w) each.
    """

    levels: list[Tensor]
    masks: Tensor
    masked: list[Tensor] | None = None
    normal: list[Tensor] | None = None


@dataclass(frozen=True)
class EpisodeBatch:
    """B one-way episodes of K shots.

    Attributes:
        support: what is marked.
        query: features, (B, c, h, w) each.
    """

    support: Support
    query: list[Tensor]


@dataclass(frozen=True)
class TrainingBatch(EpisodeBatch):
    """Episodes to learn from.

    Attributes:
        truth: the queries' masks, (B, H, W) in {0, 1}, and negative where a pixel counts as nothing.
        slot: the place of each episode's class among the base learner's classes, (B,); None: unknown.
    """

    truth: Tensor
    slot: Tensor | None = None


def assemble(
    source: FeatureSource,
    supports: Sequence[Sequence[View]],
    queries: Sequence[View],
    network: Reader,
    device: torch.device,
) -> EpisodeBatch:
    """The batch of episodes of equal shots K; without ``queries`` only its support means something.

    What a class has no defect-free image for gets the support's without the defect (`without_defect`).
    """
    size, shots = len(supports), len(supports[0])
    flat = [view for support in supports for view in support]
    both = [level.to(device) for level in source.features([*flat, *queries], network.levels)]
    levels = [level[: len(flat)].unflatten(0, (size, shots)) for level in both]
    masks = source.masks(flat).to(device).unflatten(0, (size, shots))
    masked = normal = None
    if "masked" in network.reads:
        alone = source.features(flat, network.levels, masked=True)
        masked = [level.to(device).unflatten(0, (size, shots)) for level in alone]
    if "normal" in network.reads:
        normal = without_defect(levels, masks)
        normals = {i: view for i, query in enumerate(queries) if (view := source.normal(query)) is not None}
        if normals:
            clean = source.features(list(normals.values()), network.levels)
            for level, value in zip(normal, clean, strict=True):
                level[list(normals)] = value.to(level.device, level.dtype)
    return EpisodeBatch(Support(levels, masks, masked, normal), [level[len(flat) :] for level in both])


def without_defect(levels: Sequence[Tensor], masks: Tensor) -> list[Tensor]:
    """The mean of the shots, the defect of each painted over with the mean of the rest of its image.

    Stands in for a defect-free image; its mean over the places is that of what is free of defect.

    Args:
        levels: support features, (B, K, c, h, w) each.
        masks: (B, K, H, W) in {0, 1}.

    Returns:
        (B, c, h, w) for each level; zeros for a shot that is all defect.
    """
    painted = []
    for level in levels:
        free = 1 - F.interpolate(masks, size=level.shape[-2:], mode="area")[:, :, None].to(level.dtype)
        total = free.sum((3, 4), keepdim=True).clamp_min(torch.finfo(level.dtype).tiny)  # (B, K, 1, 1, 1)
        mean = (level * free).sum((3, 4), keepdim=True) / total  # (B, K, c, 1, 1)
        painted.append((level * free + mean * (1 - free)).mean(1))
    return painted
