"""What the files of an enrolled class say: scores of its own images, each left out, and what more examples bought."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lerenet.enrolment.decision import OperatingPoint
from lerenet.enrolment.enrolled import CURVE, READINGS, Enrolled
from lerenet.params import EnrolmentSettings, EvaluationSettings


@dataclass(frozen=True)
class Calibration:
    """What an operating point stands on: scores of a class's own images, each left out.

    Attributes:
        point: as it is.
        good, defects: scores.
    """

    point: OperatingPoint | None
    good: NDArray[np.float64]
    defects: NDArray[np.float64]

    def at(self, threshold: float) -> tuple[int, int]:
        """How many good parts, and how many defects, lie above a threshold."""
        return int((self.good > threshold).sum()), int((self.defects > threshold).sum())


def calibration(folder: Path, one: Enrolled) -> Calibration:
    """What a class's operating point stands on, from its folder."""
    rows = pd.read_parquet(folder / READINGS)
    rows = rows[rows["reader"] == one.reader]
    good, bad = (rows.loc[rows["defect"] == kind, "score"].to_numpy(float) for kind in (False, True))
    return Calibration(one.point, good, bad)


def curve_of(folder: Path) -> str:
    """SVG: what more examples of a class bought, from its folder, which has the class's name."""
    from lerenet.enrolment.curve import growth
    from lerenet.enrolment.verdicts import left_out
    from lerenet.report.live import points
    from lerenet.report.plots import learning

    settings = EnrolmentSettings()
    rows = left_out(pd.read_parquet(folder / READINGS), settings.false_calls, settings.reviews)
    found = growth(rows, pd.read_parquet(folder / CURVE), folder.name, EvaluationSettings(), 0)
    return learning({folder.name: points(found)})
