"""Losses on logits (Table 7): binary cross entropy (eq. 6), focal, Dice, and their sum."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lerenet.errors import ModelError

Loss = Callable[[Tensor, Tensor], Tensor]


def bce(logits: Tensor, truth: Tensor) -> Tensor:
    """Eq. 6: mean binary cross entropy of logits (B, H, W) against truth (B, H, W) in {0, 1}."""
    return F.binary_cross_entropy_with_logits(logits, truth)


def focal(logits: Tensor, truth: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Focal loss: cross entropy weighted by (1 - p_t) ** gamma, and alpha for the foreground."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    chance = torch.exp(-entropy)  # p_t
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    return (weight * (1 - chance) ** gamma * entropy).mean()


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Dice of each image, smoothed by one pixel, averaged over the batch."""
    chance = logits.sigmoid()
    common, total = (chance * truth).sum((1, 2)), (chance + truth).sum((1, 2))
    return (1 - (2 * common + 1) / (total + 1)).mean()


def bce_dice(logits: Tensor, truth: Tensor) -> Tensor:
    """BCE + Dice."""
    return bce(logits, truth) + dice(logits, truth)


LOSSES: dict[str, Loss] = {"bce": bce, "focal": focal, "dice": dice, "bce_dice": bce_dice}


def create_loss(name: str) -> Loss:
    """The loss of that name (`TrainSettings.loss`).

    Raises:
        ModelError: unknown name; the message lists them.
    """
    if name not in LOSSES:
        raise ModelError(f"no loss {name!r}", f"known: {', '.join(sorted(LOSSES))}")
    return LOSSES[name]
