"""Readers: how a picture is read for a class: by its memory, by a fitted head, by both, by the head that all known
classes share, or by that and the fitted one; each of them refined by the picture's own edges and tones, or as it is.

Each gives a picture's places a logit that they are defect. The picture as a whole is judged by a suspicion, the same
for all readers, which good parts lower: the more alike a place is to the defect than to its surroundings and to good
parts, the more suspicious, and the head has half the say where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from lerenet.data.tiles import Tiling
from lerenet.enrolment.fitted import FittedHead
from lerenet.enrolment.memory import Memory, similarities
from lerenet.enrolment.shared import SCALE, SharedHead
from lerenet.models.refine import refine

AT_ONCE = 8  # pictures that are read together
HIGHEST = 60  # pixels, of PIXELS x PIXELS, that judge a picture
PIXELS = 200
EDGES = "_edges"  # the reader's logits refined by the picture's edges and tones
BASES = ("matching", "fitted", "blend", "shared", "joint")
OWN = {"fitted", "blend", "joint"}  # they ask the class's own head
COMMON = {"shared", "joint"}  # they ask the head of all classes
# The first reader serves where nothing is known yet.
READERS = tuple(f"{base}{ending}" for base in BASES for ending in (EDGES, ""))


def base_of(reader: str) -> str:
    """The reader as it is, without edges."""
    return reader.removesuffix(EDGES)


OF_ALL = tuple(name for name in READERS if base_of(name) in COMMON)


@dataclass(frozen=True)
class Known:
    """What a picture of one class is read with: a memory, and heads where there are any.

    Attributes:
        head: fitted to the class, where there were examples enough.
        shared: of all known classes.
        quiet: score below which a square of a picture marks nothing (`lerenet.enrolment.quiet`).
    """

    memory: Memory
    head: FittedHead | None = None
    shared: SharedHead | None = None
    quiet: float = -math.inf

    @property
    def readers(self) -> tuple[str, ...]:
        """Those that can be asked."""
        lacking = (OWN if self.head is None else set()) | (COMMON if self.shared is None else set())
        return tuple(name for name in READERS if base_of(name) not in lacking)

    def to(self, device: torch.device) -> Known:
        """The same on a device."""
        head = None if self.head is None else self.head.to(device)
        shared = None if self.shared is None else self.shared.to(device)
        return Known(self.memory.to(device), head, shared, self.quiet)


@dataclass(frozen=True)
class Read:
    """What one reader says of B pictures, or of the B squares of one.

    Attributes:
        logits: of each place, (B, l).
        suspicion: of each place, (B, l).
        alike: how much like the class's surface each place is, (B, l): its similarity to what the memory holds of any
            kind; a picture is as alike as its places are on average.
        edges: whether the marks follow edges and tones (`lerenet.models.refine`).
        quiet: see `Known`.
    """

    logits: Tensor
    suspicion: Tensor
    alike: Tensor
    edges: bool = False
    quiet: float = -math.inf

    def scores(self) -> Tensor:
        """Of the pictures, (B,): the mean of their `HIGHEST` most suspicious pixels."""
        return on_pixels(self.suspicion, PIXELS).flatten(1).topk(HIGHEST, dim=1).values.mean(1)

    def square_scores(self, within: Tensor | None = None) -> Tensor:
        """Of the squares of one picture, (B,); -inf for those that have no say.

        Args:
            within: the pixels that count, (B, PIXELS, PIXELS) of true and false. Squares with fewer than `HIGHEST` of
                them have no say, unless there are no others.
        """
        if within is None:
            return self.scores()
        values, counts = on_pixels(self.suspicion, PIXELS).flatten(1), within.flatten(1).sum(1)
        fewest = HIGHEST if bool((counts >= HIGHEST).any()) else 1
        found = [
            value[kept].topk(min(HIGHEST, int(count))).values.mean()
            if count >= fewest
            else value.new_tensor(-math.inf)
            for value, kept, count in zip(values, within.flatten(1), counts, strict=True)
        ]
        return torch.stack(found)

    def score(self, within: Tensor | None = None) -> float:
        """Of the one picture whose squares these are: its most suspicious square's."""
        return float(self.square_scores(within).max())

    def likeness(self, within: Tensor | None = None) -> float:
        """How much like the class's surface the one picture is whose squares these are: the mean over its places."""
        if within is None:
            return float(self.alike.mean())
        side = math.isqrt(self.alike.shape[1])
        inside = F.adaptive_avg_pool2d(within[:, None].float(), side).flatten(1)
        kept = inside > 0.5
        return float(self.alike[kept if kept.any() else inside > 0].mean())

    def only(self, some: slice) -> Read:
        """Of some of the pictures."""
        return replace(self, logits=self.logits[some], suspicion=self.suspicion[some], alike=self.alike[some])

    def blended(
        self, squares: Callable[[slice], Tensor], how: Tiling, within: Tensor | None = None
    ) -> Tensor:
        """Logits (H, W) of the one picture that was cut.

        A quiet square marks nothing: its logits are lowered until none is above 0.

        Args:
            squares: gives the pictures (1, 3, S, S) of a slice of its squares.
            how: it was cut.
            within: see `square_scores`.
        """
        scores = self.square_scores(within)
        heard = (scores > self.quiet) | (scores == scores.max())
        marks = on_pixels(self.logits, how.size)
        marks = marks - marks.amax((1, 2), keepdim=True).clamp_min(0)
        for number in heard.nonzero().flatten().tolist():
            some = slice(number, number + 1)
            marks[some] = self.only(some).marks(squares(some))
        return how.blended(marks)

    def marks(self, pictures: Tensor) -> Tensor:
        """Logits of the pixels of the pictures (B, 3, S, S), (B, S, S)."""
        logits = on_pixels(self.logits, pictures.shape[-1])
        return refine(logits, pictures) if self.edges else logits


@torch.inference_mode()
def read(known: Known, descriptors: Tensor, readers: Sequence[str] = READERS) -> dict[str, Read]:
    """Ask the ``readers`` that ``known`` has about pictures' descriptors (B, c, l)."""
    near, far, good = similarities(descriptors, known.memory)
    logits = {"matching": SCALE * (near - far)}
    surroundings = torch.maximum(far, good)
    alike = torch.maximum(near, surroundings)
    suspicion = SCALE * (near - surroundings)
    if known.shared is not None:
        logits["shared"] = known.shared(descriptors, torch.stack([near, far, good], 1))
    if known.head is not None:
        logits["fitted"] = known.head(descriptors).flatten(1)
        logits["blend"] = (logits["matching"] + logits["fitted"]) / 2
        if known.shared is not None:
            logits["joint"] = (logits["shared"] + logits["fitted"]) / 2
        suspicion = (suspicion + logits["fitted"]) / 2
    return {
        name: Read(logits[base_of(name)], suspicion, alike, name.endswith(EDGES), known.quiet)
        for name in readers
        if name in known.readers
    }


def read_squares(known: Known, descriptors: Tensor, readers: Sequence[str] = READERS) -> dict[str, Read]:
    """As `read`, of descriptors (T, c, l) in any number and precision, some at a time."""
    answers = [
        read(known, descriptors[start : start + AT_ONCE].float(), readers)
        for start in range(0, len(descriptors), AT_ONCE)
    ]
    return {name: _joined([one[name] for one in answers]) for name in answers[0]}


def _joined(parts: Sequence[Read]) -> Read:
    logits, suspicion, alike = (
        torch.cat([getattr(one, name) for one in parts]) for name in ("logits", "suspicion", "alike")
    )
    return Read(logits, suspicion, alike, parts[0].edges, parts[0].quiet)


def on_pixels(grid: Tensor, size: int) -> Tensor:
    """Values of places (B, l) on pixels (B, size, size), between them bilinear."""
    side = math.isqrt(grid.shape[1])
    maps = grid.unflatten(1, (1, side, side))
    return F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)[:, 0]
