"""Inspecting images with every enrolled class at once: one pass of the backbone, a verdict, and marks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lerenet.data.images import Pixels
from lerenet.data.scaling import Mask, resize_mask
from lerenet.data.tiles import tiling
from lerenet.enrolment.decision import SILENT, Verdict
from lerenet.enrolment.enrolled import Enrolled
from lerenet.enrolment.material import describe, described_by
from lerenet.enrolment.readers import PIXELS, Known, Read, read_squares
from lerenet.errors import DataError
from lerenet.features.store import to_batch
from lerenet.inference import prepare
from lerenet.models.serialization import LoadedNetwork

WORST: tuple[Verdict, ...] = ("OK", "not calibrated", "REVIEW", "NG")
NONE = "none of these"  # an image of a surface that no class knows
MARKED = 0.5  # probability above which a pixel is marked


@dataclass(frozen=True)
class ClassVerdict:
    """What one class says of an image.

    Attributes:
        name: of the class.
        verdict: see `lerenet.enrolment.decision`.
        score: of the image.
        share: of its pixels that are marked as this class.
    """

    name: str
    verdict: Verdict
    score: float
    share: float


@dataclass(frozen=True)
class Inspection:
    """What is found on one image.

    Attributes:
        verdict: the worst of the classes whose surface it is of; `NONE` where there is none.
        classes: in the order of the inspector's classes.
        marks: (H, W); where ``probability`` is above a half, 1 + the place of the class whose logit is the highest
            there, else 0.
        probability: (H, W), 0 to 1: the sigmoid of that logit; 0 where no class has a say, for each calls the image OK
            or of another surface.
    """

    verdict: str
    classes: tuple[ClassVerdict, ...]
    marks: NDArray[np.uint8]
    probability: NDArray[np.float32]


class Inspector:
    """A network, as it comes from disk, with the classes that are enrolled.

    Args:
        scale: how many pixels of the pictures to come are one of those that the classes were learnt from, along a
            side: 2 for a camera that sees twice as fine. Classes that see a picture as a whole have no scale.

    Raises:
        DataError: more than 255 classes, or one that another backbone or working size described.
    """

    def __init__(self, loaded: LoadedNetwork, classes: Sequence[Enrolled], scale: float = 1.0) -> None:
        digest = described_by(loaded)
        for one in classes:
            if (one.network, one.image_size) != (digest, loaded.image_size):
                raise DataError(
                    f"{one.name}: was enrolled with another network",
                    "enrol it again with this one, or remove its folder: `lerenet enrol` writes to enrolments/",
                )
        if len(classes) > np.iinfo(np.uint8).max:
            raise DataError(f"{len(classes)} classes", "a mask has room for 255; inspect them in parts")
        self.loaded, self.classes, self.scale = prepare(loaded), tuple(classes), scale
        network = self.loaded.network
        device = next(itertools.chain(network.parameters(), network.buffers())).device
        self.known = [one.known(device) for one in classes]

    @property
    def bits(self) -> int:
        """See `bits_of`."""
        return bits_of(self.classes)

    @torch.inference_mode()
    def __call__(
        self,
        picture: Pixels,
        mark_good: bool = False,
        within: Mask | None = None,
        scale: float | None = None,
    ) -> Inspection:
        """Inspect one image (H, W, 3): each class at its own scale (`lerenet.data.tiles`).

        Args:
            mark_good: keep marks of classes that call the image OK, or of another surface.
            within: the pixels that are inspected, (H, W); the others are seen, but neither marked nor suspected.
            scale: of this picture; None: the inspector's.

        Raises:
            DataError: the image has more squares than are inspected.
        """
        found: dict[int, ClassVerdict] = {}
        best: Tensor | None = None  # the highest logit so far, of each pixel
        place = np.zeros(picture.shape[:2], np.uint8)
        for side in sorted({one.side for one in self.classes}):
            sized = _Sized(
                self.loaded, picture, round(side * (self.scale if scale is None else scale)), within
            )
            for number, (one, known) in enumerate(zip(self.classes, self.known, strict=True), 1):
                if one.side != side:
                    continue
                answer = sized.read(known, one.reader)
                score = answer.score(sized.within)
                verdict = one.verdict(score, answer.likeness(sized.within))
                found[number] = ClassVerdict(one.name, verdict, score, 0.0)
                if verdict in SILENT and not mark_good:
                    continue
                own = sized.logits(answer)
                if best is None:
                    best, place[:] = own, number
                else:
                    place[(own > best).cpu().numpy()] = number
                    torch.maximum(best, own, out=best)
                del own  # of a large picture: as much as all else together
        chance = np.zeros(picture.shape[:2], np.float32) if best is None else best.sigmoid_().cpu().numpy()
        chance = chance if within is None else np.where(within, chance, np.float32(0))
        marks = np.where(chance > MARKED, place, np.uint8(0))
        classes = tuple(
            replace(found[number], share=np.count_nonzero(marks == number) / marks.size)
            for number in sorted(found)
        )
        heard = [one.verdict for one in classes if one.verdict in WORST]
        return Inspection(max(heard, key=WORST.index) if heard else NONE, classes, marks, chance)


def bits_of(classes: Sequence[Enrolled]) -> int:
    """Those that the camera of the classes' examples uses of 16-bit values; 0: nobody said, or not one number."""
    said = {one.bits for one in classes if one.bits}
    return said.pop() if len(said) == 1 else 0


class _Sized:
    """A picture at one scale: its squares, described once for all classes of that scale."""

    def __init__(self, loaded: LoadedNetwork, picture: Pixels, side: int, within: Mask | None) -> None:
        self.shape = (picture.shape[0], picture.shape[1])
        self.how = tiling(*self.shape, side, loaded.image_size)
        self.squares = self.how.cut(self.how.fitted(picture))
        self.descriptors = describe(loaded, self.squares)
        self.within: Tensor | None = None
        if within is not None:
            parts = self.how.cut(self.how.fitted_mask(within))
            inside = np.stack([resize_mask(part, PIXELS) for part in parts])
            self.within = torch.from_numpy(inside).to(self.descriptors.device)

    def read(self, known: Known, reader: str) -> Read:
        """What a class says of the squares, by one reader."""
        return read_squares(known, self.descriptors, (reader,))[reader]

    def logits(self, answer: Read) -> Tensor:
        """What it says of each pixel of the picture, (H, W)."""
        device = self.descriptors.device
        own = answer.blended(lambda some: to_batch(self.squares[some], device), self.how, self.within)
        return F.interpolate(own[None, None], size=self.shape, mode="bilinear", align_corners=False)[0, 0]
