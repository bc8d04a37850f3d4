"""A head that all known classes share: what one class teaches about the others' surfaces, asked with a class's memory.

It sees a picture's descriptors, and how alike each place is to what a class's memory holds of defect, background and
good parts (`lerenet.enrolment.memory.similarities`). It begins as matching, to which it adds what it learns. One is
trained on all images, and one without each fold of groups; an image teaches with a memory that lacks its own fold, as
it will be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.data.groups import folds_of, in_turn
from lerenet.device import autocast, seed_step
from lerenet.enrolment.heads import BATCH, OneCycle, Standardised, a_turn, moments, turned, wide_loss
from lerenet.enrolment.material import SIDE, Material
from lerenet.enrolment.memory import Memory, similarities
from lerenet.seeds import generator

SCALE = 20.0  # of differences of cosines, as logits
WIDTH, GROUPS = 64, 8
LR, DROPOUT = 1e-3, 0.1
AT_ONCE = 8  # images whose similarities are computed together
MOST, TOTAL = 100, 2000  # images that teach: of a class, and of all
FEWEST = 2  # classes below which nothing is shared


class SharedHead(Standardised):
    """Descriptors (B, c, l) and similarities to a class's memory (B, 3, l) to logits of its defect (B, l)."""

    def __init__(self, channels: int, mean: Tensor | None = None, spread: Tensor | None = None) -> None:
        super().__init__(channels, mean, spread)
        self.places = nn.Conv1d(channels, WIDTH, 1)
        self.alike = nn.Conv1d(4, GROUPS, 1)
        self.layers = nn.Sequential(
            nn.GroupNorm(GROUPS, WIDTH + GROUPS), nn.GELU(),
            nn.Conv2d(WIDTH + GROUPS, WIDTH, 3, padding=1), nn.GroupNorm(GROUPS, WIDTH), nn.GELU(),
            nn.Conv2d(WIDTH, WIDTH // 2, 3, padding=1), nn.GroupNorm(GROUPS, WIDTH // 2), nn.GELU(),
            nn.Conv2d(WIDTH // 2, 1, 1),
        )  # fmt: skip
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.matching = nn.Parameter(torch.ones(()))

    def forward(self, descriptors: Tensor, near: Tensor) -> Tensor:
        """(B, c, l), (B, 3, l) -> (B, l)."""
        scaled = (descriptors.float() - self.mean[:, None]) / self.spread[:, None]
        kept = F.dropout(
            torch.ones(scaled.shape[0], self.mean.shape[0], 1, device=scaled.device), DROPOUT, self.training
        )
        places = self.places(scaled * kept)
        matched = SCALE * (near[:, :1] - near[:, 1:2])
        alike = self.alike(torch.cat([5 * near, matched], 1))
        seen = torch.cat([places, alike], 1).unflatten(2, (SIDE, SIDE))
        logits: Tensor = self.matching * matched[:, 0] + self.layers(seen).flatten(1).float()
        return logits


@dataclass(frozen=True)
class Lesson:
    """One class: images that teach, and its whole memory.

    Attributes:
        material: of the images that teach.
        own: fold of each of them, (n,).
        memory: of all images of the class.
        examples, good: fold of each example and good part in the memory.
    """

    material: Material
    own: NDArray[np.int64]
    memory: Memory
    examples: NDArray[np.int64]
    good: NDArray[np.int64]

    def view(self, lacking: Sequence[int | None]) -> Memory | None:
        """The memory without some folds; None where no example would be left."""
        missing = [fold for fold in lacking if fold is not None]
        examples, good = (torch.from_numpy(~np.isin(part, missing)) for part in (self.examples, self.good))
        device = self.memory.foreground.device
        return self.memory.only(examples.to(device), good.to(device)) if examples.any() else None


def lesson(material: Material, memory: Memory, folds: int, classes: int, seed: int) -> Lesson:
    """The lesson of one of so many classes, from all of its images: of each group one square first.

    Of squares without a mark as many may teach as there are images.
    """
    own = folds_of(material.groups.tolist(), folds)
    most, rng = min(MOST, -(-TOTAL // classes)), generator(seed, "lesson")
    squares = material.apart(_teaching(material, rng))
    teach = in_turn(squares.groups.tolist(), rng)[:most]
    return Lesson(
        squares.only(teach), folds_of(squares.groups[teach].tolist(), folds), memory, own[material.examples],
        own[material.good],
    )  # fmt: skip


def _teaching(material: Material, rng: np.random.Generator) -> list[int]:
    """The squares with a mark, and as many without as there are images; where a picture is a square, all."""
    squares = material.squares(range(len(material.groups)))
    marked = np.array(material.marked(squares), bool)
    others = np.flatnonzero(~marked)
    if len(others) > len(material.groups):
        others = rng.choice(others, len(material.groups), replace=False)
    return [int(square) for square in np.sort(np.concatenate([np.flatnonzero(marked), others]))]


@torch.inference_mode()
def _prepared(lessons: Sequence[Lesson], without: int | None) -> list[tuple[int, int, Tensor]]:
    """Class, image and similarities (3, l) of every image that teaches."""
    found = []
    for number, lesson in enumerate(lessons):
        for fold in sorted(set(lesson.own.tolist()) - {without}):
            memory = lesson.view((without, fold))
            if memory is None:
                continue
            mine = np.flatnonzero(lesson.own == fold)
            for start in range(0, len(mine), AT_ONCE):
                some = mine[start : start + AT_ONCE].tolist()
                near = torch.stack(similarities(lesson.material.descriptors[some].float(), memory), 1)
                found += [(number, place, one) for place, one in zip(some, near, strict=True)]
    return found


def train_shared(
    lessons: Sequence[Lesson],
    without: int | None,
    epochs: int,
    seed: int,
    tick: Callable[[], None] = lambda: None,
    precision: str = "bf16",
) -> SharedHead | None:
    """Train a head on all classes but for one fold of groups; None with too few classes.

    Args:
        lessons: the classes, in an order that stays.
        without: the fold that it must not know; None: it knows all.
        epochs: passes over the images, `BATCH` at a time; AdamW, one cycle, BCE and Dice.
        seed: of weights and order.
        tick: called once an epoch.
        precision: bf16 (where the device has it) or fp32.
    """
    images = _prepared(lessons, without)
    if len({number for number, *_ in images}) < FEWEST or not epochs:
        return None
    device = lessons[0].material.descriptors.device
    mean, spread = _moments(lessons, images)
    seed_step(seed, 1, 0)
    head = SharedHead(len(mean), mean, spread).to(device).train()
    steps = max(1, len(images) // BATCH)
    cycle = OneCycle(head, LR, epochs * steps)
    rng = generator(seed, "shared order", str(without))
    for _ in range(epochs):
        order = rng.permutation(len(images))
        for step in range(steps):
            chosen = [images[place] for place in order[step * BATCH : (step + 1) * BATCH]]
            turn = a_turn(rng)
            described = torch.stack(
                [lessons[number].material.descriptors[place] for number, place, *_ in chosen]
            )
            near = torch.stack([alike for *_, alike in chosen]).clone()
            truth = torch.cat([lessons[number].material.targets([place]) for number, place, *_ in chosen])
            grids = (turned(part.unflatten(2, (SIDE, SIDE)), *turn).flatten(2) for part in (described, near))
            with autocast(device, precision):
                logits = head(*grids).float()
            cycle.step(wide_loss(logits.unflatten(1, (SIDE, SIDE)), turned(truth, *turn)))
        tick()
    return head.eval()


def _moments(lessons: Sequence[Lesson], images: Sequence[tuple[int, int, Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (c,) of what all classes' images hold, each class counted by its images."""
    taught = [[place for number, place, *_ in images if number == own] for own in range(len(lessons))]
    pairs = [
        (len(places), *moments(lesson.material.descriptors, places))
        for lesson, places in zip(lessons, taught, strict=True)
        if places
    ]
    total = sum(count for count, *_ in pairs)
    mean = torch.stack([count * part for count, part, _ in pairs]).sum(0) / total
    square = torch.stack([count * (spread.square() + part.square()) for count, part, spread in pairs]).sum(0)
    return mean, (square / total - mean.square()).clamp_min(0).sqrt().clamp_min(1e-6)
