"""Losses on logits (Table 7): binary cross entropy (eq. 6), focal, Dice, and their sum.

Truth is 1 on the defect, 0 beside it, and negative where a pixel counts as nothing: it adds to no sum and no mean.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lerenet.errors import ModelError

Loss = Callable[[Tensor, Tensor], Tensor]


def bce(logits: Tensor, truth: Tensor) -> Tensor:
    """Eq. 6: mean binary cross entropy of logits (B, H, W) against truth (B, H, W)."""
    return _mean(F.binary_cross_entropy_with_logits(logits, truth.clamp_min(0), reduction="none"), truth)


def _mean(values: Tensor, truth: Tensor) -> Tensor:
    """Over the pixels that count."""
    counted = (truth >= 0).to(values.dtype)
    return (values * counted).sum() / counted.sum().clamp_min(1)


def focal(logits: Tensor, truth: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Focal loss: cross entropy weighted by (1 - p_t) ** gamma, and alpha for the foreground."""
    marked = truth.clamp_min(0)
    entropy = F.binary_cross_entropy_with_logits(logits, marked, reduction="none")
    chance = torch.exp(-entropy)  # p_t
    weight = alpha * marked + (1 - alpha) * (1 - marked)
    return _mean(weight * (1 - chance) ** gamma * entropy, truth)


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Dice of each image, smoothed by one pixel, averaged over the batch."""
    marked = truth.clamp_min(0)
    chance = logits.sigmoid() * (truth >= 0)
    common, total = (chance * marked).sum((1, 2)), (chance + marked).sum((1, 2))
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
