"""Everything of the report that is resampled, computed once: intervals of its rows, and of their differences.

By the resampling that the gate uses. A row may be several training seeds of one recipe. Its score on a fold is the
mean of the seeds' scores, and a draw takes the same query images for every seed: the interval covers the choice of
query images, the seeds' spread (smallest to largest) stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lerenet.evaluation.metrics import METRICS, MIOU, Array
from lerenet.evaluation.resampling import combine, defects, draw_totals, percentiles, stratify
from lerenet.params import EvaluationSettings, Params
from lerenet.report.choose import MATCHER_LABELS, REFERENCE
from lerenet.report.load import Loaded, Model

ALL = ""  # in the place of a fold: all of them


@dataclass(frozen=True)
class Interval:
    """Bounds in points."""

    low: float
    high: float


@dataclass(frozen=True)
class Draws:
    """Scores of one row by metric, mean over its folds of the mean over its seeds: as they are, and of each draw."""

    actual: dict[str, float]
    drawn: dict[str, Array]  # (draws,) each


@dataclass(frozen=True)
class Gain:
    """The mIoU of one row against another on the same episodes, in points."""

    gain: float
    low: float
    high: float
    challenger: float
    champion: float
    confidence: float
    folds: int
    of: int  # so many folds the question has


@dataclass(frozen=True)
class Intervals:
    """All that was resampled; what there are no episodes for is left out.

    Attributes:
        scores: (model id, shots, fold or `ALL`) -> metric -> interval; a fold alone only of several seeds.
        classes: (model id, shots) -> class -> IoU, low, high, of the models that figures compare.
        gains: (champion id, challenger id, shots, fold or `ALL`) -> paired difference.
    """

    scores: dict[tuple[str, int, str], dict[str, Interval]] = field(default_factory=dict)
    classes: dict[tuple[str, int], dict[str, tuple[float, float, float]]] = field(default_factory=dict)
    gains: dict[tuple[str, str, int, str], Gain] = field(default_factory=dict)


def resampled(loaded: Loaded, params: Params, compared: Sequence[Model]) -> Intervals:
    """Resample every row, and each trained one against what it is compared with.

    Args:
        compared: the models of which every class gets an interval.
    """
    work, intervals = _Resampling(loaded, params.evaluation, params.seed), Intervals()
    for shots in loaded.shots:
        for model in loaded.models:
            folds = loaded.folds_asked if len(model.seeds) > 1 else ()
            for fold in (ALL, *folds):
                draws = work.of(model, shots, [fold] if fold else None)
                if draws is not None:
                    intervals.scores[model.id, shots, fold] = work.bounds(draws)
            for champion in _champions(loaded.models, model):
                for fold in (ALL, *loaded.folds_asked):
                    gain = work.gain(champion, model, shots, fold)
                    if gain is not None:
                        intervals.gains[champion.id, model.id, shots, fold] = gain
        for model in compared:
            intervals.classes[model.id, shots] = work.classes(model, shots)
    return intervals


def _champions(models: Sequence[Model], model: Model) -> list[Model]:
    """What a trained model is compared with: the matchers and the reference recipe on its backbone."""
    if model.floor:
        return []
    return [
        other
        for other in models
        if other.backbone == model.backbone
        and other.id != model.id
        and (other.label in MATCHER_LABELS or other.recipe == REFERENCE)
    ]


class _Resampling:
    """Draws of each row and set of folds, made once."""

    def __init__(self, loaded: Loaded, settings: EvaluationSettings, seed: int) -> None:
        self.loaded, self.settings, self.seed = loaded, settings, seed
        self._made: dict[tuple[str, int, tuple[str, ...]], Draws | None] = {}

    def of(self, model: Model, shots: int, splits: Sequence[str] | None = None) -> Draws | None:
        """Of one row on its folds, or on ``splits`` of them; None without episodes."""
        counts = self.loaded.counts_of(model.id, shots)
        splits_there = set(counts["split"]) if len(counts) else set()
        wanted = tuple(sorted(splits_there if splits is None else splits_there & set(splits)))
        key = (model.id, shots, wanted)
        if key not in self._made:
            self._made[key] = self.resample(counts[counts["split"].isin(wanted)]) if wanted else None
        return self._made[key]

    def resample(self, counts: pd.DataFrame) -> Draws:
        """Draw query images anew, the same for every seed.

        Args:
            counts: defect episodes of one row: split, seed and the columns of ``counts.parquet``.
        """
        rng = np.random.default_rng(self.seed)
        actual: list[dict[str, Array]] = []  # of each fold
        drawn: list[dict[str, Array]] = []
        for _, fold in counts.groupby("split", sort=True):
            strata = stratify([defects(rows) for _, rows in fold.groupby("seed", sort=True)])
            totals = draw_totals(strata, self.settings.draws, rng)
            for kept, sums in ((drawn, totals), (actual, [stratum.total for stratum in strata])):
                scores, _ = combine(strata, sums)  # (draws or 1, seeds)
                kept.append({name: values.mean(1) for name, values in scores.items()})
        names = [metric.name for metric in METRICS]
        return Draws(
            {name: float(np.mean([fold[name] for fold in actual], axis=0)[0]) for name in names},
            {name: np.mean([fold[name] for fold in drawn], axis=0) for name in names},
        )

    def bounds(self, draws: Draws) -> dict[str, Interval]:
        """The percentile interval of every metric."""
        return {
            name: Interval(*percentiles(values, self.settings.confidence))
            for name, values in draws.drawn.items()
        }

    def classes(self, model: Model, shots: int) -> dict[str, tuple[float, float, float]]:
        """IoU, low and high of each class: means over the seeds."""
        table = {}
        counts = self.loaded.counts_of(model.id, shots)
        for cls, rows in counts.groupby("cls") if len(counts) else []:
            draws = self.resample(rows)
            limits = self.bounds(draws)[MIOU.name]
            table[str(cls)] = (draws.actual[MIOU.name], limits.low, limits.high)
        return table

    def gain(self, champion: Model, challenger: Model, shots: int, fold: str) -> Gain | None:
        """Paired difference on the folds that both have, or on one; None when there is none."""
        common = self._common_splits(champion, challenger, shots)
        splits = [split for split in common if fold in (ALL, split)]
        first = self.of(champion, shots, splits) if splits else None
        second = self.of(challenger, shots, splits) if splits else None
        if first is None or second is None:
            return None
        name, confidence = MIOU.name, self.settings.confidence
        low, high = percentiles(second.drawn[name] - first.drawn[name], confidence)
        return Gain(
            gain=second.actual[name] - first.actual[name],
            low=low,
            high=high,
            challenger=second.actual[name],
            champion=first.actual[name],
            confidence=confidence,
            folds=len(splits),
            of=len(self.loaded.folds_asked),
        )

    def _common_splits(self, first: Model, second: Model, shots: int) -> list[str]:
        """Folds on which both rows were scored on the same episodes."""
        tables = [self.loaded.counts_of(model.id, shots) for model in (first, second)]
        if any(table.empty for table in tables):
            return []
        episodes = [
            {str(split): frozenset(rows["episode"]) for split, rows in table.groupby("split")}
            for table in tables
        ]
        return sorted(split for split, numbers in episodes[0].items() if episodes[1].get(split) == numbers)
