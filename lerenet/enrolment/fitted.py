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

from lerenet.device import autocast, seed_step
from lerenet.enrolment.heads import BATCH, OneCycle, Standardised, a_turn, moments, turned, wide_loss
from lerenet.enrolment.material import SIDE, Material
from lerenet.seeds import generator

HIDDEN, WIDTH, GROUPS = 64, 32, 8
LR, DROPOUT = 2e-3, 0.1
GOOD_SHARE = 0.25  # of a batch: squares without a mark, where there are some
FEWEST = 4  # examples below which a head knows less than a comparison with them


class FittedHead(Standardised):
    """Descriptors (B, c, l) to logits of a class's defect, (B, side, side)."""

    def __init__(self, channels: int, mean: Tensor | None = None, spread: Tensor | None = None) -> None:
        super().__init__(channels, mean, spread)
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
        kept = dropout(torch.ones(descriptors.shape[0], 1, self.mean.shape[0], device=self.mean.device))
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
    squares = material.squares([*examples, *good])
    mean, spread = moments(material.descriptors, squares)
    defect = dict(zip(squares, material.marked(squares), strict=True))
    marked, unmarked = ([square for square in squares if defect[square] is kind] for kind in (True, False))
    seed_step(seed, 0, 0)
    head = FittedHead(len(mean), mean, spread).to(device).train()
    cycle = OneCycle(head, LR, steps)
    rng = generator(seed, "fitted")
    clean = round(BATCH * GOOD_SHARE) if unmarked else 0
    for _ in range(steps):
        chosen = [*_draw(rng, marked, BATCH - clean), *_draw(rng, unmarked, clean)]
        turn = a_turn(rng)
        with autocast(device, precision):
            logits = head.decide(turned(head.hidden(material.descriptors[chosen]), *turn))
        cycle.step(wide_loss(logits, turned(material.targets(chosen), *turn)))
        tick()
    return head.eval()


def _draw(rng: np.random.Generator, places: list[int], count: int) -> list[int]:
    return [places[i] for i in rng.choice(len(places), count, replace=len(places) < count)] if count else []
