"""At what scale a class is worked on: as a whole, or in squares of its pictures' short side or of half of it.

Chosen by leaving groups out, as its reader is: the marked images, or some of them, are read by matching at each scale,
and a finer one takes over where it is better by more than the standard error of the gain. What is compared is the
geometric mean of IoU (which small defects hardly move) and of the overlap of each defect (which marking too much only
raises).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lerenet.data.groups import in_turn
from lerenet.data.tiles import side_for
from lerenet.enrolment.enrol import remembered
from lerenet.enrolment.leave_out import held_out, readings, without
from lerenet.enrolment.material import Material
from lerenet.enrolment.quiet import quieted
from lerenet.enrolment.readers import READERS, Known
from lerenet.evaluation.metrics import COUNTS, iou
from lerenet.evaluation.regions import OVERLAP, REGIONS
from lerenet.evaluation.resampling import jackknife
from lerenet.params import EnrolmentSettings
from lerenet.seeds import generator

TRIED = 20  # marked images that scales are compared on
GOOD = 10  # good parts, which say what squares without a defect score
PARTS = (1, 2)  # of the short side


def sides_of(shapes: Sequence[tuple[int, int]], size: int) -> list[int]:
    """The scales that come into question for pictures (height, width), coarsest first; none magnifies."""
    middle = float(np.median(np.min(shapes, axis=1)))
    finer = [round(middle / parts) for parts in PARTS if parts > 1 or side_for(shapes)]
    return [0, *(side for side in finer if side >= size)]


def tried(groups: Sequence[str], defect: Sequence[bool], seed: int) -> list[int]:
    """Which images scales are compared on, marked ones and good parts, of each group one first."""
    chosen: list[int] = []
    for kind, most in ((True, TRIED), (False, GOOD)):
        places = [place for place, bad in enumerate(defect) if bad is kind]
        order = in_turn([groups[place] for place in places], generator(seed, "scale", kind))
        chosen += [places[place] for place in order[:most]]
    return sorted(chosen)


def chosen_side(
    materials: Mapping[int, Material], shapes: Sequence[tuple[int, int]], settings: EnrolmentSettings
) -> int:
    """The side for a class.

    Args:
        materials: of the same images, by side, coarsest first.
        shapes: heights and widths of the class's pictures, for which there is nothing to compare.
    """
    first = next(iter(materials.values()))
    if len(held_out(first, settings.folds)) < 2 or len(set(first.groups.tolist())) < 2:
        return side_for(shapes)
    sums = {side: _sums(material, settings) for side, material in materials.items()}
    best, *finer = sums
    for side in finer:
        gain, error = _gain(sums[best], sums[side])
        best = side if gain > error else best
    return best


def _sums(material: Material, settings: EnrolmentSettings) -> pd.DataFrame:
    """Counts and overlaps of each group, its images left out."""
    memory = remembered(material, settings)
    left = {
        fold: (Known(without(memory, material, kept)), asked)
        for fold, (kept, asked) in held_out(material, settings.folds).items()
    }
    parts, _ = quieted(material, left, settings.false_calls, settings.reviews)
    rows = pd.concat(
        [
            readings(material, known, asked[material.defect[asked]], fold, READERS[:1])
            for fold, (known, asked) in parts.items()
        ]
    )
    return rows.groupby("group")[[*COUNTS, REGIONS, OVERLAP]].sum()


def _gain(one: pd.DataFrame, two: pd.DataFrame) -> tuple[float, float]:
    """Gain of ``two`` over ``one`` on the groups of both, and its standard error."""
    both = one.index.intersection(two.index)
    return jackknife(np.stack([one.loc[both].to_numpy(float), two.loc[both].to_numpy(float)], axis=1), _value)


def _value(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Geometric mean of IoU and mean overlap, in percent, of sums (..., 6)."""
    regions, overlap = sums[..., len(COUNTS)], sums[..., len(COUNTS) + 1]
    return np.asarray(np.sqrt(iou(sums[..., : len(COUNTS)]) * 100 * overlap / np.maximum(regions, 1)))
