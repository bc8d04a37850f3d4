"""At what scale a class is worked on: as a whole, or in squares of its pictures' short side or of half of it.

Chosen by leaving groups out, as its reader is: the marked images, or some of them, are read by matching at each scale,
and a finer one takes over where it marks better (`lerenet.enrolment.leave_out.gain`) by more than the standard error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lerenet.data.groups import in_turn
from lerenet.data.tiles import side_for
from lerenet.enrolment.enrol import remembered
from lerenet.enrolment.leave_out import gain, held_out, readings, without
from lerenet.enrolment.material import Material
from lerenet.enrolment.quiet import quieted
from lerenet.enrolment.readers import READERS, Known
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
    rows = {side: _read(material, settings) for side, material in materials.items()}
    best, *finer = rows
    for side in finer:
        change, error = gain(rows[best], rows[side])
        best = side if change > error else best
    return best


def _read(material: Material, settings: EnrolmentSettings) -> pd.DataFrame:
    """What matching says of the marked images, each left out."""
    memory = remembered(material, settings)
    left = {
        fold: (Known(without(memory, material, kept)), asked)
        for fold, (kept, asked) in held_out(material, settings.folds).items()
    }
    parts, _ = quieted(material, left, settings.false_calls, settings.reviews)
    return pd.concat(
        [
            readings(material, known, asked[material.defect[asked]], fold, READERS[:1])
            for fold, (known, asked) in parts.items()
        ]
    )
