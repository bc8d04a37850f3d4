"""A head fitted to a class's own examples: what many examples teach that a comparison with them can't.

Two small convolutions over the descriptors of a picture's places (`lerenet.enrolment.describe`), trained from nothing
with binary cross-entropy and Dice loss on the examples and good parts. Descriptors are means over four turns of a
picture, so their grid turns and mirrors with it: each step sees a turn of its batch that costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.device import seed_step
from lerenet.enrolment.material import SIDE, Material
from lerenet.models.losses import bce, dice
from lerenet.seeds import generator

HIDDEN, WIDTH, GROUPS = 64, 32, 8
BATCH, LR, WEIGHT_DECAY, DROPOUT = 8, 2e-3, 1e-2, 0.1
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
            nn.Dropout2d(DROPOUT),
            nn.Conv2d(channels, HIDDEN, 1), nn.GroupNorm(GROUPS, HIDDEN), nn.GELU(),
            nn.Conv2d(HIDDEN, WIDTH, 3, padding=1), nn.GroupNorm(GROUPS, WIDTH), nn.GELU(),
            nn.Conv2d(WIDTH, 1, 1),
        )  # fmt: skip

    def forward(self, descriptors: Tensor) -> Tensor:
        """(B, c, l) -> (B, side, side)."""
        scaled = (descriptors.float() - self.mean[:, None]) / self.spread[:, None]
        logits: Tensor = self.layers(scaled.unflatten(2, (SIDE, SIDE)))
        return logits[:, 0]


def fit(
    material: Material,
    examples: list[int],
    good: list[int],
    steps: int,
    seed: int,
    tick: Callable[[], None] = lambda: None,
) -> FittedHead | None:
    """Fit a head to some of a class's images; None for fewer than `FEWEST` examples.

    Args:
        material: of the class.
        examples, good: places of images in it.
        steps: of AdamW, on `BATCH` images each, the rate rising and falling once (one cycle).
        seed: of weights and order.
        tick: called once a step.
    """
    if len(examples) < FEWEST:
        return None
    device = material.descriptors.device
    used = material.descriptors[[*examples, *good]].float()
    spread = used.std((0, 2)).clamp_min(1e-6)
    seed_step(seed, 0, 0)
    head = FittedHead(used.shape[1], used.mean((0, 2)), spread).to(device).train()
    optimizer = torch.optim.AdamW(head.parameters(), LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    rng = generator(seed, "fitted")
    clean = round(BATCH * GOOD_SHARE) if good else 0
    for _ in range(steps):
        chosen = [*_draw(rng, examples, BATCH - clean), *_draw(rng, good, clean)]
        grid = material.descriptors[chosen].unflatten(2, (SIDE, SIDE))
        turn, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        grid, truth = (_turned(part, turn, mirrored) for part in (grid, material.targets(chosen)))
        logits = F.interpolate(
            head(grid.flatten(2))[:, None], size=truth.shape[1:], mode="bilinear", align_corners=False
        )[:, 0]
        loss = bce(logits, truth) + dice(logits, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        tick()
    return head.eval()


def _draw(rng: np.random.Generator, places: list[int], count: int) -> list[int]:
    return [places[i] for i in rng.choice(len(places), count, replace=len(places) < count)] if count else []


def _turned(maps: Tensor, turn: int, mirrored: bool) -> Tensor:
    turned = maps.rot90(turn, (-2, -1))
    return turned.flip(-1) if mirrored else turned
