"""What every head shares: the interface, the grid, the masked support."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.errors import ModelError

State = dict[str, Tensor]
Extra = dict[str, Any]


class Segmenter(nn.Module):
    """A head: support features, masks and a query's features in, logits out.

    The support is encoded once (`encode`); a state of batch 1 serves any number of queries
    (`decode`), so an enrolled class costs one backbone pass and one decode for each image.

    Args:
        channels: level -> channels of what the backbone gives.
        levels: the levels this head reads, in this order.
        image_size: side of the logits, in pixels.

    Raises:
        ModelError: when the backbone does not give a level that the head reads.
    """

    extras: tuple[str, ...] = ()  # what it reads of an episode beside features and masks (see `encode`)
    works_untrained = False  # True: the initial weights segment, and training has to beat them
    relational = False  # True: `decode` is `relate`, free of weights, and then `answer`
    outlined = False  # True: a prediction is refined by the query's picture, edges and tones (`lerenet.models.tones`)

    def __init__(self, channels: Mapping[int, int], levels: Sequence[int], image_size: int) -> None:
        super().__init__()
        missing = [level for level in levels if level not in channels]
        if missing:
            raise ModelError(
                f"{type(self).__name__} reads level {missing[0]} of the backbone, "
                f"which gives {sorted(channels)}",
                "add the level to `levels` in params.yaml, or set `levels` of the recipe's model",
            )
        self.levels = tuple(levels)
        self.channels = tuple(channels[level] for level in levels)
        self.image_size = image_size

    def encode(self, support: list[Tensor], masks: Tensor, extra: Extra | None = None) -> State:
        """Support features (B, K, c, h, w) a level and masks (B, K, H, W) in {0, 1} -> state.

        ``extra`` holds what `extras` names: ``masked``, the levels (B, K, c, h, w) of the support images
        with all but the defect blacked out; ``normal``, the levels (B, c, h, w) of a defect-free image;
        ``slot``, in training, the place of the episode's class among the base learner's classes, (B,).
        """
        raise NotImplementedError

    def decode(self, state: State, query: list[Tensor]) -> Tensor:
        """State and query features (B, c, h, w) a level -> logits (B, image_size, image_size)."""
        raise NotImplementedError

    def relate(self, state: State, query: list[Tensor]) -> State:
        """All of `decode` that no learnable weight enters: for training it is computed once a pair."""
        raise NotImplementedError

    def answer(self, relations: State) -> Tensor:
        """What `relate` found -> logits (B, image_size, image_size)."""
        raise NotImplementedError

    def forward(
        self, support: list[Tensor], masks: Tensor, query: list[Tensor], extra: Extra | None = None
    ) -> Tensor:
        """One-way episodes -> logits (B, image_size, image_size); foreground where they, or with
        ``outlined`` what `refine` makes of them, exceed 0."""
        return self.decode(self.encode(support, masks, extra), query)

    def learn(
        self,
        support: list[Tensor],
        masks: Tensor,
        query: list[Tensor],
        truth: Tensor,
        loss: Callable[[Tensor, Tensor], Tensor],
        extra: Extra | None = None,
    ) -> Tensor:
        """The training loss of a batch, side terms included: ``loss`` of logits and truth (B, H, W)."""
        return loss(self(support, masks, query, extra).float(), truth)

    def enlarge(self, logits: Tensor) -> Tensor:
        """(B, 1, h, w) -> (B, image_size, image_size), bilinear."""
        side = (self.image_size, self.image_size)
        return F.interpolate(logits.float(), size=side, mode="bilinear", align_corners=False)[:, 0]


def to_grid(feature: Tensor, grid: int) -> Tensor:
    """(N, c, h, w) -> (N, c, grid, grid): area average down, bilinear up."""
    if feature.shape[-2:] == (grid, grid):
        return feature
    if feature.shape[-1] >= grid and feature.shape[-2] >= grid:
        return F.adaptive_avg_pool2d(feature, (grid, grid))
    return F.interpolate(feature, size=(grid, grid), mode="bilinear", align_corners=False)


def shots_to_grid(feature: Tensor, grid: int) -> Tensor:
    """(B, K, c, h, w) -> (B, K, c, grid, grid)."""
    found: Tensor = to_grid(feature.flatten(0, 1), grid).unflatten(0, feature.shape[:2])
    return found


def masks_to_grid(masks: Tensor, grid: int, mode: str = "area") -> Tensor:
    """(B, K, H, W) -> (B, K, grid, grid): share of each cell that is foreground, or bilinear samples."""
    if mode == "area":
        return F.interpolate(masks, size=(grid, grid), mode="area")
    return F.interpolate(masks, size=(grid, grid), mode="bilinear", align_corners=True)


def expand(state: Tensor, batch: int) -> Tensor:
    """A state of batch 1 for ``batch`` queries; any other batch is left alone."""
    return state.expand(batch, *state.shape[1:]) if state.shape[0] == 1 else state


def parameters_of(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(value.numel() for value in module.parameters())


def without_defect(levels: Sequence[Tensor], masks: Tensor) -> list[Tensor]:
    """The mean of the shots, the defect of each painted over with the mean of the rest of its image.

    Stands in for a defect-free image; its mean over the places is that of what is free of defect.

    Args:
        levels: support features, (B, K, c, h, w) each.
        masks: (B, K, H, W) in {0, 1}.

    Returns:
        (B, c, h, w) for each level; zeros for a shot that is all defect.
    """
    found = []
    for level in levels:
        free = 1 - F.interpolate(masks, size=level.shape[-2:], mode="area")[:, :, None].to(level.dtype)
        total = free.sum((3, 4), keepdim=True).clamp_min(torch.finfo(level.dtype).tiny)  # (B, K, 1, 1, 1)
        mean = (level * free).sum((3, 4), keepdim=True) / total  # (B, K, c, 1, 1)
        found.append((level * free + mean * (1 - free)).mean(1))
    return found


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of ``values`` (B, c, l) under ``weights`` (B, l) -> (B, c); zero where all weights are."""
    total = weights.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    mean: Tensor = torch.einsum("bcl,bl->bc", values, weights) / total
    return mean
