"""What the next example buys: a class's left-out images read with 1, 2, 5, 10, 20 of its examples.

By matching alone, which every number of examples allows and which costs no fitting; what all of them come to, with the
reader that was chosen, the left-out readings say.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from lerenet.data.groups import in_turn
from lerenet.enrolment.leave_out import COLUMNS, TYPES, held_out, readings
from lerenet.enrolment.material import Material
from lerenet.enrolment.memory import Memory, remember
from lerenet.enrolment.quiet import quieted
from lerenet.enrolment.readers import READERS, Known
from lerenet.enrolment.verdicts import episodes
from lerenet.evaluation.metrics import MIOU
from lerenet.evaluation.resampling import interval
from lerenet.params import EnrolmentSettings, EvaluationSettings
from lerenet.seeds import generator

ALL = "all"  # on a curve: of a class's examples, by the reader that was chosen


def curve(material: Material, settings: EnrolmentSettings, seed: int) -> pd.DataFrame:
    """Readings of the examples, each left out, for each count of ``settings``, which stands in the column ``examples``.

    A count that a fold's others don't exceed is left out there.
    """
    good = np.array(material.good, dtype=np.int64)
    tables = [pd.DataFrame(columns=["place", *COLUMNS]).astype(TYPES).assign(examples=0)]
    alike: dict[int, Memory] = {}  # by fold: the good parts are the same for every count, and thinned once
    for count in settings.curve:
        parts = {}
        for fold, (kept, asked) in held_out(material, settings.folds).items():
            known = np.array([place for place in material.examples if kept[place]])
            order = known[in_turn(material.groups[known].tolist(), generator(seed, "curve", fold))]
            if count >= len(order) or not material.defect[asked].any():
                continue
            chosen = material.squares(order[:count].tolist())
            clean = material.squares(good[kept[good]].tolist())
            given = None if fold in alike else material.descriptors[clean]
            memory = remember(material.descriptors[chosen], material.shares(chosen), given, settings.budget)
            best = alike.setdefault(fold, memory)
            parts[fold] = (Known(replace(memory, good=best.good, good_from=best.good_from)), asked)
        quiet, _ = quieted(material, parts, settings.false_calls, settings.reviews)
        for fold, (reader, asked) in quiet.items():
            rows = readings(material, reader, asked[material.defect[asked]], fold, READERS[:1])
            tables.append(rows.assign(examples=count))
    return pd.concat(tables, ignore_index=True).drop(columns="place")


def growth(
    rows: pd.DataFrame, curve: pd.DataFrame, cls: str, settings: EvaluationSettings, seed: int
) -> dict[str, dict[str, float]]:
    """IoU of a class with its interval (``iou``, ``low``, ``high``), by how many examples its images are read with.

    Args:
        rows: of its left-out images, by the reader that was chosen (`lerenet.enrolment.verdicts.left_out`): `ALL`.
        curve: of `curve`.
    """
    parts = {str(count): part for count, part in curve.groupby("examples")}
    if rows["defect"].any():
        parts[ALL] = rows[rows["defect"]]
    low, high = MIOU.bounds
    found = {}
    for count, part in parts.items():
        score = interval(episodes(part, cls), settings.draws, seed, settings.confidence)
        found[count] = {"iou": score[MIOU.name], "low": score[low], "high": score[high]}
    return found
