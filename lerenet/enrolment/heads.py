"""What the head of one class and that of all share: standardised descriptors, turned views, their loss, one cycle."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.models.losses import bce, dice

BATCH, WEIGHT_DECAY = 8, 1e-2
AT_ONCE = 16  # images whose descriptors are held in double precision


class Standardised(nn.Module):
    """A module that knows mean and standard deviation (c,) of the descriptors that it was trained on."""

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int, mean: Tensor | None = None, spread: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels) if mean is None else mean)
        self.register_buffer("spread", torch.ones(channels) if spread is None else spread)


class OneCycle:
    """AdamW whose rate rises to ``rate`` and falls again once, in so many steps."""

    def __init__(self, head: nn.Module, rate: float, steps: int) -> None:
        self.optimizer = torch.optim.AdamW(head.parameters(), rate, weight_decay=WEIGHT_DECAY)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, rate, total_steps=steps)

    def step(self, loss: Tensor) -> None:
        """Go one step down the loss."""
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()


def moments(descriptors: Tensor, places: list[int]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (c,) of some images' descriptors (N, c, l), some at a time."""
    total = square = torch.zeros(descriptors.shape[1], dtype=torch.float64, device=descriptors.device)
    for start in range(0, len(places), AT_ONCE):
        part = descriptors[places[start : start + AT_ONCE]].double()
        total, square = total + part.sum((0, 2)), square + part.square().sum((0, 2))
    count = len(places) * descriptors.shape[2]
    mean = total / count
    spread = (square / count - mean.square()).clamp_min(0).sqrt().clamp_min(1e-6)
    return mean.float(), spread.float()


def a_turn(rng: np.random.Generator) -> tuple[int, bool]:
    """Quarter turns, and whether to mirror, for `turned`."""
    return int(rng.integers(4)), bool(rng.integers(2))


def turned(maps: Tensor, turn: int, mirrored: bool) -> Tensor:
    """Maps (…, side, side) after quarter turns, mirrored or not."""
    maps = maps.rot90(turn, (-2, -1))
    return maps.flip(-1) if mirrored else maps


def wide_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """BCE and Dice of logits (B, side, side), made as wide as the truth (B, H, W)."""
    wide = F.interpolate(logits[:, None], size=truth.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    return bce(wide, truth) + dice(wide, truth)
