"""What every head shares: the interface, the grid, the masked support."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.errors import ModelError
from lerenet.models.batch import Beside, EpisodeBatch, Support, TrainingBatch

State = dict[str, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]  # of logits and truth, (B, H, W) each


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

    reads: tuple[Beside, ...] = ()  # of the support, beside levels and masks
    works_untrained = False  # True: the initial weights segment, and training has to beat them
    relational = False  # True: `decode` is `relate`, free of weights, and then `answer`
    refined = False  # True: a prediction is refined by the query's picture, edges and tones (`lerenet.models.refine`)

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

    def encode(self, support: Support) -> State:
        """What is kept of the support; of it, ``masked`` and ``normal`` are there where `reads` names them."""
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

    def forward(self, batch: EpisodeBatch) -> Tensor:
        """Logits (B, image_size, image_size); foreground where they, or with ``refined`` what
        `lerenet.models.refine.refine` makes of them, exceed 0."""
        return self.decode(self.encode(batch.support), batch.query)

    def learn(self, batch: TrainingBatch, loss: Loss) -> Tensor:
        """The training loss of a batch, side terms included."""
        return loss(self(batch).float(), batch.truth)

    @property
    def base_learner(self) -> nn.Module | None:
        """A part that learns the base classes before the episodes: level (B, c, h, w) -> logits (B, slots, h, w)."""
        return None

    def enlarge(self, logits: Tensor) -> Tensor:
        """(B, 1, h, w) -> (B, image_size, image_size), bilinear."""
        side = (self.image_size, self.image_size)
        return F.interpolate(logits.float(), size=side, mode="bilinear", align_corners=False)[:, 0]


def to_grid(feature: Tensor, side: int) -> Tensor:
    """(N, c, h, w) -> (N, c, side, side): area average down, bilinear up."""
    if feature.shape[-2:] == (side, side):
        return feature
    if feature.shape[-1] >= side and feature.shape[-2] >= side:
        return F.adaptive_avg_pool2d(feature, (side, side))
    return F.interpolate(feature, size=(side, side), mode="bilinear", align_corners=False)


def shots_to_grid(feature: Tensor, side: int) -> Tensor:
    """(B, K, c, h, w) -> (B, K, c, side, side)."""
    on_grid: Tensor = to_grid(feature.flatten(0, 1), side).unflatten(0, feature.shape[:2])
    return on_grid


def masks_to_grid(masks: Tensor, side: int, mode: Literal["area", "bilinear", "nearest"] = "area") -> Tensor:
    """(B, K, H, W) -> (B, K, side, side): the foreground's share of each cell, bilinear samples, or each cell's
    first pixel (`nearest`)."""
    aligned = True if mode == "bilinear" else None
    return F.interpolate(masks, size=(side, side), mode=mode, align_corners=aligned)


def expand(state: Tensor, batch: int) -> Tensor:
    """A state of batch 1 for ``batch`` queries; any other batch is left alone."""
    return state.expand(batch, *state.shape[1:]) if state.shape[0] == 1 else state


def parameters_of(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(value.numel() for value in module.parameters())


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of ``values`` (B, c, l) under ``weights`` (B, l) -> (B, c); zero where all weights are."""
    total = weights.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    mean: Tensor = torch.einsum("bcl,bl->bc", values, weights) / total
    return mean
