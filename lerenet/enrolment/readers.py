"""Readers: how a picture is read for a class. From simple to less so: by its memory, by a fitted head, by both.

Each gives a picture's places two numbers: a logit that the place is defect, and a suspicion, by which the picture is
judged as a whole and which good parts lower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lerenet.enrolment.fitted import FittedHead
from lerenet.enrolment.memory import Memory, similarities
from lerenet.models.refine import refine

SCALE = 20.0  # of differences of cosines, as logits
HIGHEST = 60  # pixels, of PIXELS x PIXELS, that judge a picture
PIXELS = 200
READERS = ("matching", "fitted", "blend")  # from simple to less so


@dataclass(frozen=True)
class Known:
    """What a picture of one class is read with: a memory, and a head where there were examples enough to fit one."""

    memory: Memory
    head: FittedHead | None = None

    @property
    def readers(self) -> tuple[str, ...]:
        """Those that can be asked."""
        return READERS if self.head is not None else READERS[:1]


@dataclass(frozen=True)
class Read:
    """What one reader says of B pictures.

    Attributes:
        logits: of each place, (B, l).
        suspicion: of each place, (B, l).
    """

    logits: Tensor
    suspicion: Tensor

    def scores(self) -> Tensor:
        """Of the pictures, (B,): the mean of their `HIGHEST` most suspicious pixels."""
        return on_pixels(self.suspicion, PIXELS).flatten(1).topk(HIGHEST, dim=1).values.mean(1)

    def marks(self, pictures: Tensor) -> Tensor:
        """Logits of pixels, along edges and tones of the pictures (B, 3, S, S), (B, S, S)."""
        return refine(on_pixels(self.logits, pictures.shape[-1]), pictures)


@torch.inference_mode()
def read(known: Known, descriptors: Tensor, readers: tuple[str, ...] = READERS) -> dict[str, Read]:
    """Ask the ``readers`` that ``known`` has about pictures' descriptors (B, c, l)."""
    wanted = [name for name in readers if name in known.readers]
    found: dict[str, Read] = {}
    if {"matching", "blend"} & set(wanted):
        near, far, good = similarities(descriptors, known.memory)
        found["matching"] = Read(SCALE * (near - far), SCALE * (near - torch.maximum(far, good)))
    if {"fitted", "blend"} & set(wanted) and known.head is not None:
        logits = known.head(descriptors).flatten(1)
        found["fitted"] = Read(logits, logits)
    if "blend" in wanted:
        one, two = found["matching"], found["fitted"]
        found["blend"] = Read((one.logits + two.logits) / 2, (one.suspicion + two.suspicion) / 2)
    return {name: found[name] for name in wanted}


def on_pixels(grid: Tensor, size: int) -> Tensor:
    """Values of places (B, l) on pixels (B, size, size), between them bilinear."""
    side = math.isqrt(grid.shape[1])
    maps = grid.unflatten(1, (1, side, side))
    return F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)[:, 0]
