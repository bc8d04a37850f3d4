"""Which squares of a picture mark nothing: those that are no more suspicious than squares without a defect are.

A picture in many squares is called for its most suspicious one; the others would mark what nearest is to a defect in
them, as every picture does. So a square has a say only above what left-out squares without a mark score, group by
group, but for the share of reviews; and the most suspicious square always has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lerenet.enrolment.decision import calibrate
from lerenet.enrolment.material import Material
from lerenet.enrolment.readers import READERS, Known, read_squares

Parts = Mapping[
    int, tuple[Known, NDArray[np.int64]]
]  # fold -> what its images are read with, and their places


def quieted(material: Material, parts: Parts, false_calls: float, reviews: float) -> tuple[Parts, float]:
    """The parts, each with what squares without a mark score in the others; and what they score in all.

    Pictures that are one square each have no others: nothing is read then.
    """
    if not parts or all(len(how.corners) == 1 for how in material.tilings):
        return parts, -torch.inf
    scores = pd.concat([_scores(material, known, asked, fold) for fold, (known, asked) in parts.items()])

    def bound(rows: pd.DataFrame) -> float:
        point = calibrate(rows.groupby("group")["score"].max().tolist(), false_calls, reviews)
        return -torch.inf if point is None else point.review

    found = {
        fold: (replace(known, quiet=bound(scores[scores["fold"] != fold])), asked)
        for fold, (known, asked) in parts.items()
    }
    return found, bound(scores)


@torch.inference_mode()
def _scores(material: Material, known: Known, asked: NDArray[np.int64], fold: int) -> pd.DataFrame:
    """Score of each square without a mark of the images ``asked``."""
    squares = material.squares(asked.tolist())
    groups = np.repeat(material.groups[asked], [len(material.tilings[place].corners) for place in asked])
    clean = np.array(material.plain(squares), bool)
    chosen = np.array(squares)[clean].tolist()
    rows = pd.DataFrame({"fold": fold, "group": groups[clean]})
    if not chosen:
        return rows.assign(score=0.0)
    answer = read_squares(known, material.descriptors[chosen], READERS[:1])[READERS[0]]
    return rows.assign(score=answer.scores().cpu().numpy())
