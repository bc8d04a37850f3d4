"""Inspecting images with every enrolled class at once: one pass of the backbone, a verdict, and marks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from lerenet.data.images import Pixels
from lerenet.data.scaling import resize_image
from lerenet.enrolment.decision import SILENT, Verdict
from lerenet.enrolment.enrolled import Enrolled
from lerenet.enrolment.material import describe, described_by
from lerenet.enrolment.readers import read
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

    Raises:
        DataError: more than 255 classes, or one that another backbone or working size described.
    """

    def __init__(self, loaded: LoadedNetwork, classes: Sequence[Enrolled]) -> None:
        digest = described_by(loaded)
        for one in classes:
            if (one.network, one.image_size) != (digest, loaded.image_size):
                raise DataError(
                    f"{one.name}: was enrolled with another network",
                    "enrol it again with this one, or remove its folder: `lerenet enrol` writes to enrolments/",
                )
        if len(classes) > np.iinfo(np.uint8).max:
            raise DataError(f"{len(classes)} classes", "a mask has room for 255; inspect them in parts")
        self.loaded, self.classes = prepare(loaded), tuple(classes)
        network = self.loaded.network
        device = next(itertools.chain(network.parameters(), network.buffers())).device
        self.known = [one.known(device) for one in classes]

    @torch.inference_mode()
    def __call__(self, picture: Pixels, mark_good: bool = False) -> Inspection:
        """Inspect one image (H, W, 3).

        Args:
            mark_good: keep marks of classes that call the image OK, or of another surface.
        """
        descriptors = describe(self.loaded, [picture])
        small = to_batch([resize_image(picture, self.loaded.image_size)], descriptors.device)
        verdicts, scores = [], []
        best = torch.full(
            picture.shape[:2], -torch.inf, device=descriptors.device
        )  # the highest logit so far
        place = torch.zeros(picture.shape[:2], dtype=torch.uint8, device=descriptors.device)
        for number, (one, known) in enumerate(zip(self.classes, self.known, strict=True), 1):
            answer = read(known, descriptors, (one.reader,))[one.reader]
            score = float(answer.scores())
            verdict = one.verdict(score, float(answer.alike))
            if verdict not in SILENT or mark_good:
                logit = answer.marks(small)[:, None]
                own = F.interpolate(logit, size=picture.shape[:2], mode="bilinear", align_corners=False)[0, 0]
                place[own > best] = number
                best = torch.maximum(best, own)
            verdicts.append(verdict)
            scores.append(score)
        probability = best.sigmoid()
        marks = torch.where(probability > MARKED, place, 0).cpu().numpy()
        found = tuple(
            ClassVerdict(one.name, verdict, score, float((marks == number).mean()))
            for number, (one, verdict, score) in enumerate(
                zip(self.classes, verdicts, scores, strict=True), 1
            )
        )
        heard = [verdict for verdict in verdicts if verdict in WORST]
        return Inspection(
            max(heard, key=WORST.index) if heard else NONE, found, marks, probability.cpu().numpy()
        )
