"""The scores: what each is from counts of pixels. Everything that shows or compares scores reads this table.

Counts are true positives, false positives, false negatives, true negatives; scores are in points (0 to 100). An
entry more in `METRICS` is a column more in report and results, a metric more in MLflow and on the model card, and
under ``gate.max_drop`` in params.yaml a guard rail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lerenet.errors import ParamsError

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
COUNTS = ["tp", "fp", "fn", "tn"]


@dataclass(frozen=True)
class Metric:
    """One score.

    Attributes:
        name: in files, MLflow and settings.
        title: for people.
        of: counts (..., 4) -> points (...).
        pooled: of the counts of all classes of a fold together; else the mean over the fold's classes.
        higher_is_better: in which direction a model gets better.
    """

    name: str
    title: str
    of: Callable[[Array], Array]
    pooled: bool = False
    higher_is_better: bool = True

    @property
    def bounds(self) -> tuple[str, str]:
        """Names of its interval's ends."""
        return f"{self.name}_low", f"{self.name}_high"

    def drop(self, change: float) -> float:
        """By how much a model with this ``change`` got worse (negative: better)."""
        return -change if self.higher_is_better else change


def share(part: Array, whole: Array) -> Array:
    """``part / whole`` in points; 0 where there is nothing to divide by."""
    return np.divide(100.0 * part, whole, out=np.zeros_like(whole), where=whole > 0)


def iou(counts: Array) -> Array:
    """IoU of the foreground."""
    tp, fp, fn, _ = np.moveaxis(counts, -1, 0)
    return share(tp, tp + fp + fn)


def mean_of_both(counts: Array) -> Array:
    """Mean of the IoU of foreground and background."""
    tp, fp, fn, tn = np.moveaxis(counts, -1, 0)
    return (share(tp, tp + fp + fn) + share(tn, tn + fp + fn)) / 2


MIOU = Metric("miou", "mIoU", iou)  # what trainings are elected by and the gate asks for a gain in
METRICS = (MIOU, Metric("fb_iou", "FB-IoU", mean_of_both, pooled=True))
NAMES = tuple(name for metric in METRICS for name in (metric.name, *metric.bounds))


def check_guards(guarded: Iterable[str]) -> None:
    """Refuse guard rails that no metric bears.

    Raises:
        ParamsError: ``gate.max_drop`` names what `METRICS` lacks, or mIoU, of which the gate asks a gain.
    """
    names = [metric.name for metric in METRICS if metric is not MIOU]
    if unknown := sorted(set(guarded) - set(names)):
        raise ParamsError(
            f"params.yaml: gate.max_drop: no metric {unknown[0]!r}", f"known: {', '.join(names)}"
        )


def summed(counts: pd.DataFrame) -> Array:
    """The counts of all episodes together, (4,)."""
    total: Array = counts[COUNTS].to_numpy(np.float64).sum(axis=0)
    return total


def class_iou(counts: pd.DataFrame) -> dict[str, float]:
    """IoU of each class, from the counts of its episodes: sum of intersections over sum of unions."""
    return {str(cls): float(iou(summed(rows))) for cls, rows in counts.groupby("cls")}


def miou(counts: pd.DataFrame) -> float:
    """Mean of the classes' IoU."""
    return float(np.mean(list(class_iou(counts).values())))


def scores(counts: pd.DataFrame) -> dict[str, float]:
    """Every metric of one fold's episodes, by name."""
    classes = np.stack([summed(rows) for _, rows in counts.groupby("cls")])  # (classes, 4)
    return {
        metric.name: float(metric.of(classes.sum(0)) if metric.pooled else metric.of(classes).mean())
        for metric in METRICS
    }


def clean_scores(counts: pd.DataFrame) -> dict[str, float]:
    """On clean queries: the share of pixels falsely marked, and of images left wholly clean (0..1)."""
    false, total = float(counts["fp"].sum()), float(counts[["fp", "tn"]].to_numpy().sum())
    return {
        "false_share": false / total if total else 0.0,
        "images_clean_share": float((counts["fp"] == 0).mean()),
        "n": len(counts),
    }
