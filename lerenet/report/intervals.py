"""Intervals of the report's rows, by the bootstrap that the gate uses.

A row may be several training seeds of one recipe. Its score on a fold is the mean of the seeds'
scores, and a draw takes the same query images for every seed: the interval covers the choice of
query images, the seeds' spread (smallest to largest) stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lerenet.bootstrap import combine, defects, draw_totals, percentiles, stratify
from lerenet.params import Params
from lerenet.report.load import Loaded, Model

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Bounds in points of IoU."""

    low: float
    high: float


@dataclass(frozen=True)
class Draws:
    """Scores of one row, mean over its folds of the mean over its seeds: as they are, and of each draw."""

    miou: float
    fb_iou: float
    miou_draws: Array  # (draws,)
    fb_draws: Array  # (draws,)


@dataclass(frozen=True)
class Gain:
    """One row against another on the same episodes, in points of IoU."""

    gain: float
    low: float
    high: float
    challenger: float
    champion: float
    confidence: float
    folds: int


def draws_of(
    loaded: Loaded, model: Model, shots: int, params: Params, splits: Sequence[str] | None = None
) -> Draws | None:
    """Resample one row on its folds, or on ``splits`` of them; None without episodes."""
    counts = loaded.counts_of(model.id, shots)
    known = set(counts["split"]) if len(counts) else set()
    wanted = tuple(sorted(known if splits is None else known & set(splits)))
    key = (model.id, shots, wanted, params.seed, params.evaluation.draws)
    if key not in loaded.draws:
        loaded.draws[key] = resample(counts[counts["split"].isin(wanted)], params) if wanted else None
    found: Draws | None = loaded.draws[key]
    return found


def resample(counts: pd.DataFrame, params: Params) -> Draws:
    """Draw query images anew, the same for every seed.

    Args:
        counts: defect episodes of one row: split, seed and the columns of ``counts.parquet``.
    """
    rng = np.random.default_rng(params.seed)
    values: list[tuple[Array, Array]] = []  # mIoU and FB-IoU of each fold
    drawn: list[tuple[Array, Array]] = []
    for _, fold in counts.groupby("split", sort=True):
        strata = stratify([defects(rows) for _, rows in fold.groupby("seed", sort=True)])
        totals = draw_totals(strata, params.evaluation.draws, rng)
        for kept, sums in ((drawn, totals), (values, [stratum.total for stratum in strata])):
            miou, fb, _ = combine(strata, sums)  # (draws or 1, seeds)
            kept.append((miou.mean(1), fb.mean(1)))
    (miou, fb), (miou_draws, fb_draws) = np.mean(values, axis=0), np.mean(drawn, axis=0)
    return Draws(float(miou[0]), float(fb[0]), miou_draws, fb_draws)


def bounds(draws: Array, params: Params) -> Interval:
    """The percentile interval of ``evaluation.confidence``."""
    return Interval(*percentiles(draws, params.evaluation.confidence))


def class_intervals(counts: pd.DataFrame, params: Params) -> dict[str, tuple[float, float, float]]:
    """IoU, low and high of each class, in points: means over the seeds."""
    table = {}
    for cls, rows in counts.groupby("cls") if len(counts) else []:
        found = resample(rows, params)
        limits = bounds(found.miou_draws, params)
        table[str(cls)] = (found.miou, limits.low, limits.high)
    return table


def gain_over(
    loaded: Loaded, champion: Model, challenger: Model, shots: int, params: Params, fold: str | None = None
) -> Gain | None:
    """Paired difference of two rows on the folds that both have, or on one ``fold``; None when there is none."""
    common = _common_splits(loaded, champion, challenger, shots)
    splits = common if fold is None else [split for split in common if split == fold]
    first = draws_of(loaded, champion, shots, params, splits) if splits else None
    second = draws_of(loaded, challenger, shots, params, splits) if splits else None
    if first is None or second is None:
        return None
    interval_ = bounds(second.miou_draws - first.miou_draws, params)
    return Gain(
        gain=second.miou - first.miou,
        low=interval_.low,
        high=interval_.high,
        challenger=second.miou,
        champion=first.miou,
        confidence=params.evaluation.confidence,
        folds=len(splits),
    )


def _common_splits(loaded: Loaded, first: Model, second: Model, shots: int) -> list[str]:
    """Folds on which both rows were scored on the same episodes."""
    tables = [loaded.counts_of(model.id, shots) for model in (first, second)]
    if any(table.empty for table in tables):
        return []
    episodes = [
        {str(split): frozenset(rows["episode"]) for split, rows in t.groupby("split")} for t in tables
    ]
    return sorted(split for split, known in episodes[0].items() if episodes[1].get(split) == known)
