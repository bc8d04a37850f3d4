"""A class as it was without one fold of groups: what a champion says of images that it, or a challenger, was given."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lerenet.data.groups import folds_of
from lerenet.enrolment.enrolled import WHOLE, Enrolled
from lerenet.enrolment.leave_out import choose, operating_point, readings, surface
from lerenet.enrolment.material import Material
from lerenet.enrolment.readers import Known, read_squares
from lerenet.enrolment.verdicts import judged


def without_fold(enrolled: Enrolled, fold: int) -> tuple[Known, set[str]]:
    """What a class is read with on images of ``fold``, and the groups of its own that are known all the same.

    As in `lerenet.enrolment.leave_out.held_out`: where the fold holds every example, they are kept. The shared head is
    the one without the fold even where the class has no image there: other classes may.
    """
    examples, good = (
        folds_of([image.group for image in part], enrolled.folds) != fold
        for part in (enrolled.examples, enrolled.good)
    )
    kept = set[str]()
    if not examples.any():
        examples = np.ones_like(examples)
        kept = {image.group for image in enrolled.examples}
    memory = enrolled.memory.only(torch.from_numpy(examples), torch.from_numpy(good))
    whole = examples.all() and good.all()
    which = WHOLE if whole else str(fold)
    quiet = enrolled.quiet.get(which, -math.inf)
    return Known(memory, enrolled.heads.get(which), enrolled.shared.get(str(fold)), quiet), kept


def left_view(
    enrolled: Enrolled, own: pd.DataFrame, fold: int, device: torch.device
) -> tuple[Known, str, set[str]]:
    """What images of a fold are read with, by which reader, and the groups that are known all the same."""
    known, kept = without_fold(enrolled, fold)
    reader = choose(own[own["fold"] != fold])
    return known.to(device), reader if reader in known.readers else known.readers[0], kept


def asked(
    enrolled: Enrolled, own: pd.DataFrame, material: Material, false_calls: float, reviews: float
) -> pd.DataFrame:
    """What a class says of a material's images, each by what was learnt without its fold; see `verdicts.left_out`.

    Of images that the class was itself learnt from these are its own left-out readings. Images whose group is known
    all the same are left out.

    Args:
        own: the class's own readings.
        material: images in any number; rows name them by ``place``.
    """
    folds = folds_of(material.groups.tolist(), enrolled.folds)
    parts = []
    for fold in np.unique(folds):
        known, reader, kept = left_view(enrolled, own, int(fold), material.descriptors.device)
        places = np.flatnonzero((folds == fold) & ~np.isin(material.groups, sorted(kept)))
        rows = readings(material, known, places, int(fold), (reader,))
        others = own[own["fold"] != fold]
        parts.append(judged(rows, operating_point(others, reader, false_calls, reviews), surface(others)))
    return pd.concat(parts, ignore_index=True)


@torch.inference_mode()
def marks(enrolled: Enrolled, own: pd.DataFrame, material: Material) -> list[NDArray[np.bool_]]:
    """What a class marks on each of a material's images, (H, W) as they are worked on, read as `asked` does."""
    parts = []
    for place, fold in enumerate(folds_of(material.groups.tolist(), enrolled.folds)):
        known, reader, _ = left_view(enrolled, own, int(fold), material.descriptors.device)
        parts.append((logits(material, place, known, reader) > 0).cpu().numpy())
    return parts


@torch.inference_mode()
def logits(material: Material, place: int, known: Known, reader: str) -> Tensor:
    """What a reader says of each pixel of one of a material's images, (H, W) as it is worked on."""
    squares = material.squares([place])
    answer = read_squares(known, material.descriptors[squares], (reader,))[reader]
    return answer.blended(lambda some: material.images(squares[some]), material.tilings[place])
