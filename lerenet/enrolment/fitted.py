"""A head fitted to a class's own examples: what many examples teach that a comparison with them can't.

Two small convolutions over the descriptors of a picture's places (`lerenet.enrolment.describe`), trained from nothing
with binary cross-entropy and Dice loss on the examples and good parts. Descriptors are means over four turns of a
picture, so their grid turns and mirrors with it: each step sees a turn of its batch that costs nothing. Descriptors
are read as they lie in memory, in half precision: the first convolution, which sees each place alone, takes their
standardisation and dropout into its weights, and what is turned is its answer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.device import autocast, seed_step
from lerenet.enrolment.material import SIDE, Material
from lerenet.models.losses import bce, dice
from lerenet.seeds import generator

HIDDEN, WIDTH, GROUPS = 64, 32, 8
BATCH, LR, WEIGHT_DECAY, DROPOUT = 8, 2e-3, 1e-2, 0.1
AT_ONCE = 16  # images whose descriptors are held in double precision
GOOD_SHARE = 0.25  # of a batch, where there are good parts
FEWEST = 4  # examples below which a head knows less than a comparison with them


class FittedHead(nn.Module):
    """Descriptors (B, c, l) to logits of a class's defect, (B, side, side)."""

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int, mean: Tensor | None = None, spread: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels) if mean is None else mean)
        self.register_buffer("spread", torch.ones(channels) if spread is None else spread)
        self.layers = nn.Sequential(
            nn.Dropout(DROPOUT),
            nn.Conv2d(channels, HIDDEN, 1), nn.GroupNorm(GROUPS, HIDDEN), nn.GELU(),
            nn.Conv2d(HIDDEN, WIDTH, 3, padding=1), nn.GroupNorm(GROUPS, WIDTH), nn.GELU(),
            nn.Conv2d(WIDTH, 1, 1),
        )  # fmt: skip

    def forward(self, descriptors: Tensor) -> Tensor:
        """(B, c, l) -> (B, side, side)."""
        return self.decide(self.hidden(descriptors))

    def hidden(self, descriptors: Tensor) -> Tensor:
        """The first convolution of standardised descriptors (B, c, l), of which channels are dropped in training."""
        dropout, first = self.layers[0], self.layers[1]
        assert isinstance(first, nn.Conv2d)
        assert first.bias is not None
        kept = dropout(torch.ones(len(descriptors), 1, len(self.mean), device=self.mean.device))
        weight = first.weight[:, :, 0, 0] / self.spread * kept  # (B, HIDDEN, c)
        bias = first.bias - weight @ self.mean
        places = torch.matmul(weight, descriptors.to(_kind(weight))) + bias[..., None]
        grid: Tensor = places.float().unflatten(2, (SIDE, SIDE))
        return grid

    def decide(self, hidden: Tensor) -> Tensor:
        """What follows, (B, HIDDEN, side, side) -> (B, side, side)."""
        logits: Tensor = self.layers[2:](hidden)
        return logits[:, 0].float()


def _kind(weight: Tensor) -> torch.dtype:
    """What a product with ``weight`` is computed in."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def fit(
    material: Material,
    examples: list[int],
    good: list[int],
    steps: int,
    seed: int,
    tick: Callable[[], None] = lambda: None,
    precision: str = "bf16",
) -> FittedHead | None:
    """Fit a head to some of a class's images; None for fewer than `FEWEST` examples.

    Args:
        material: of the class.
        examples, good: places of images in it.
        steps: of AdamW, on `BATCH` images each, the rate rising and falling once (one cycle).
        seed: of weights and order.
        tick: called once a step.
        precision: bf16 (where the device has it) or fp32.
    """
    if len(examples) < FEWEST:
        return None
    device = material.descriptors.device
    mean, spread = moments(material.descriptors, [*examples, *good])
    seed_step(seed, 0, 0)
    head = FittedHead(len(mean), mean, spread).to(device).train()
    optimizer = torch.optim.AdamW(head.parameters(), LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    rng = generator(seed, "fitted")
    clean = round(BATCH * GOOD_SHARE) if good else 0
    for _ in range(steps):
        chosen = [*_draw(rng, examples, BATCH - clean), *_draw(rng, good, clean)]
        turn, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        truth = turned(material.targets(chosen), turn, mirrored)
        with autocast(device, precision):
            logits = head.decide(turned(head.hidden(material.descriptors[chosen]), turn, mirrored))
        logits = F.interpolate(logits[:, None], size=truth.shape[1:], mode="bilinear", align_corners=False)[
            :, 0
        ]
        loss = bce(logits, truth) + dice(logits, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        tick()
    return head.eval()


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


def _draw(rng: np.random.Generator, places: list[int], count: int) -> list[int]:
    return [places[i] for i in rng.choice(len(places), count, replace=len(places) < count)] if count else []


def wide_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """BCE and Dice of logits (B, side, side), made as wide as the truth (B, H, W)."""
    wide = F.interpolate(logits[:, None], size=truth.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    return bce(wide, truth) + dice(wide, truth)


def turned(maps: Tensor, turn: int, mirrored: bool) -> Tensor:
    """Maps (…, side, side) after quarter turns, mirrored or not."""
    turned = maps.rot90(turn, (-2, -1))
    return turned.flip(-1) if mirrored else turned
