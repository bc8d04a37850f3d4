"""How sure a score is: episodes resampled, counts summed again, IoU computed again (numpy only).

mIoU is a ratio of sums, so its error can't be read off a mean. Each draw takes the query images of
a class with replacement (a query image keeps all its episodes: a cluster), inside each (split,
class) stratum, and goes from counts to scores again. Two models are drawn together, so that what
makes an episode hard counts for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lerenet.errors import PromotionError
from lerenet.evaluation.metrics import COUNTS, METRICS, MIOU, Array

IDENTITY = ["split", "protocol", "kind", "shots", "episode", "cls", "query"]
CHUNK = 4_000_000  # weights held at once


Scores = dict[str, Array]  # name of each metric -> (draws, models)


@dataclass(frozen=True)
class Change:
    """A difference in points, and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedGain:
    """Challenger minus champion on the same episodes, in points (0 to 100).

    Attributes:
        gain, low, high: difference in mIoU and its interval.
        others: the same of every other metric, by name.
        champion, challenger: their mIoU.
        class_gain: difference in IoU of each class.
        episodes, queries: how many episodes and query images it rests on.
        draws, confidence: of the resampling.
    """

    gain: float
    low: float
    high: float
    others: dict[str, Change]
    champion: float
    challenger: float
    class_gain: dict[str, float]
    episodes: int
    queries: int
    draws: int
    confidence: float


@dataclass(frozen=True)
class Stratum:
    """One class of one split: what is resampled together."""

    split: str
    cls: str
    sums: Array  # (query images or groups, models, 4)

    @property
    def total(self) -> Array:
        """The counts without resampling, as one draw: (1, models, 4)."""
        total: Array = self.sums.sum(axis=0)[None]
        return total


def paired_bootstrap(
    champion: pd.DataFrame,
    challenger: pd.DataFrame,
    draws: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> PairedGain:
    """Gain of ``challenger`` over ``champion`` with a percentile interval.

    Args:
        champion: Counts, one row an episode: split, cls, query, episode, tp, fp, fn, tn. Rows of
            kind "clean" are left out.
        challenger: The same episodes in any order.
        draws: Number of resamples.
        seed: Seed of the resampling; the same seed gives the same interval.
        confidence: Probability mass inside the interval.

    Raises:
        PromotionError: when the two tables hold different episodes, or nothing.
    """
    first, second = _paired(champion, challenger)
    strata = stratify([first, second])
    drawn, _ = _resampled(strata, draws, seed)
    actual, per_class = _actual(strata)
    changes = {
        name: Change(
            float(actual[name][0, 1] - actual[name][0, 0]), *percentiles(both[:, 1] - both[:, 0], confidence)
        )
        for name, both in drawn.items()
    }
    main = changes.pop(MIOU.name)
    return PairedGain(
        gain=main.value,
        low=main.low,
        high=main.high,
        others=changes,
        champion=float(actual[MIOU.name][0, 0]),
        challenger=float(actual[MIOU.name][0, 1]),
        class_gain={cls: float(pair[0, 1] - pair[0, 0]) for cls, pair in per_class.items()},
        episodes=len(first),
        queries=sum(len(stratum.sums) for stratum in strata),
        draws=draws,
        confidence=confidence,
    )


def surely_better(before: pd.DataFrame, after: pd.DataFrame) -> bool:
    """Whether the paired 95 % interval of the gain lies above zero in every class.

    The question is about classes never seen, and the tables hold few: a mean over two of them, however
    narrow its interval, says little about a third. Both tables as in `paired_bootstrap`.
    """
    both = zip(before.groupby("cls", sort=True), after.groupby("cls", sort=True), strict=True)
    return all(paired_bootstrap(one, other).low > 0 for (_, one), (_, other) in both)


def chance_of_gain(
    champion: pd.DataFrame, challenger: pd.DataFrame, draws: int = 10_000, seed: int = 0
) -> float:
    """One-sided p: how often a gain in mIoU as large comes about when the two models do not differ.

    Without a difference the two could have changed places at any part: each draw lets them, with probability 1/2
    a group of query images (``query_group``: one part or photo, or the image itself where the tables lack it), all
    its episodes together. This permutation test keeps its level however few the groups and however unlike their
    defects, where the percentile interval, which draws images, comes out too narrow. Arguments and errors as in
    `paired_bootstrap`.
    """
    first, second = _paired(champion, challenger)
    strata = stratify([first, second], by="query_group" if "query_group" in first else "query")
    actual = _actual(strata)[0][MIOU.name][0]
    swapped = combine(strata, _exchanged(strata, draws, np.random.default_rng(seed)))[0][MIOU.name]
    reached = int((swapped[:, 1] - swapped[:, 0] >= actual[1] - actual[0] - 1e-9).sum())
    return (reached + 1) / (draws + 1)


def _exchanged(strata: Sequence[Stratum], draws: int, rng: np.random.Generator) -> list[Array]:
    """The two models changed places at random groups: counts (draws, 2, 4) of each stratum."""
    totals = []
    for stratum in strata:
        difference = stratum.sums[:, 1] - stratum.sums[:, 0]  # (n, 4)
        swapped = (rng.integers(0, 2, (size, len(difference))) for size in _chunks(len(difference), draws))
        moved = np.concatenate([part.astype(np.float64) @ difference for part in swapped])  # (draws, 4)
        totals.append(stratum.total + np.stack([moved, -moved], axis=1))
    return totals


def jackknife(sums: Array, value: Callable[[Array], Array]) -> tuple[float, float]:
    """Gain in a score that is computed from sums, and its standard error, by leaving out one group at a time.

    Args:
        sums: of each group by one way and by another, (groups, 2, k).
        value: (..., k) -> (...).
    """
    whole, left = value(sums.sum(0)), value(sums.sum(0) - sums)  # (2,), and (groups, 2), each without one
    gains = left[:, 1] - left[:, 0]
    error = np.sqrt((len(gains) - 1) / len(gains) * ((gains - gains.mean()) ** 2).sum())
    return float(whole[1] - whole[0]), float(error)


def interval(
    counts: pd.DataFrame, draws: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> dict[str, float]:
    """The scores of one model with their intervals, in points.

    Args:
        counts: One row an episode, of one model; rows of kind "clean" are left out.
        draws: Number of resamples.
        seed: Seed of the resampling.
        confidence: Probability mass inside the interval.

    Returns:
        of each metric its name, ``<name>_low`` and ``<name>_high``.

    Raises:
        PromotionError: when the table holds no episode with a defect.
    """
    strata = stratify([defects(counts)])
    drawn, _ = _resampled(strata, draws, seed)
    actual, _ = _actual(strata)
    scores: dict[str, float] = {}
    for metric in METRICS:
        low, high = metric.bounds
        scores[metric.name] = float(actual[metric.name][0, 0])
        scores[low], scores[high] = percentiles(drawn[metric.name][:, 0], confidence)
    return scores


def defects(counts: pd.DataFrame) -> pd.DataFrame:
    """The rows of episodes with a defect in the query, by episode.

    Raises:
        PromotionError: there is none, or an episode is counted twice.
    """
    rows = counts[counts["kind"] == "defect"] if "kind" in counts else counts
    if rows.empty:
        raise PromotionError("the counts hold no episode with a defect", "run `dvc repro` to evaluate")
    if rows["episode"].duplicated().any():
        raise PromotionError("an episode is counted twice", "give the counts of one model at a time")
    return rows.sort_values("episode", ignore_index=True)


def _paired(champion: pd.DataFrame, challenger: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both by episode, the challenger's pixels in units of the champion's where their images differ in size."""
    first, second = defects(champion), defects(challenger)
    if not _same(first, second):
        raise PromotionError(
            f"champion and challenger were scored on different episodes ({len(first)} and {len(second)})",
            "score both on the same episodes file",
        )
    pixels, others = first[COUNTS].sum(axis=1), second[COUNTS].sum(axis=1)
    if (pixels != others).any():
        second = second.assign(**second[COUNTS].mul(pixels / others, axis=0))
    return first, second


def _same(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    columns = [name for name in IDENTITY if name in first and name in second]
    return len(first) == len(second) and bool((first[columns] == second[columns]).to_numpy().all())


def same_episodes(champion: pd.DataFrame, challenger: pd.DataFrame) -> bool:
    """Whether two tables of counts are of the same episodes (split, shots, class, query)."""
    return _same(defects(champion), defects(challenger))


def stratify(tables: Sequence[pd.DataFrame], by: str = "query") -> list[Stratum]:
    """Counts summed over each query image (or value of ``by``), for each (split, class); all tables in one order."""
    keys = tables[0][["split", "cls", by]]
    counts = np.stack([table[COUNTS].to_numpy(np.float64) for table in tables], axis=1)  # (n, models, 4)
    strata = []
    for rows in keys.groupby(["split", "cls"]).indices.values():
        split, cls = keys["split"].iloc[rows[0]], keys["cls"].iloc[rows[0]]
        _, cluster = np.unique(keys[by].to_numpy()[rows].astype(str), return_inverse=True)
        sums = np.zeros((int(cluster.max()) + 1, *counts.shape[1:]))
        np.add.at(sums, cluster, counts[rows])
        strata.append(Stratum(str(split), str(cls), sums))
    return strata


def _resampled(strata: Sequence[Stratum], draws: int, seed: int) -> tuple[Scores, Scores]:
    """As `combine`, of each draw."""
    return combine(strata, draw_totals(strata, draws, np.random.default_rng(seed)))


def draw_totals(strata: Sequence[Stratum], draws: int, rng: np.random.Generator) -> list[Array]:
    """Query images drawn anew, the same for all models: counts (draws, models, 4) of each stratum."""
    totals = []
    for stratum in strata:
        flat = stratum.sums.reshape(len(stratum.sums), -1)
        parts = [weights @ flat for weights in _weights(rng, len(flat), draws)]
        totals.append(np.concatenate(parts).reshape(draws, *stratum.sums.shape[1:]))
    return totals


def _weights(rng: np.random.Generator, clusters: int, draws: int) -> Iterator[Array]:
    """How often each cluster is drawn, (some of the draws, clusters); rows sum to ``clusters``."""
    for size in _chunks(clusters, draws):
        yield rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size).astype(np.float64)


def _chunks(clusters: int, draws: int) -> Iterator[int]:
    """Draws made at once, so that at most `CHUNK` weights are held; they add up to ``draws``."""
    step = max(1, CHUNK // clusters)
    yield from (min(step, draws - first) for first in range(0, draws, step))


def _actual(strata: Sequence[Stratum]) -> tuple[Scores, Scores]:
    """As `combine`, without resampling: one draw."""
    return combine(strata, [stratum.total for stratum in strata])


def combine(strata: Sequence[Stratum], totals: Sequence[Array]) -> tuple[Scores, Scores]:
    """From counts (draws, models, 4) a stratum to the scores, each the mean over the splits.

    Returns:
        the metrics by name, and the IoU of each class, (draws, models) each.
    """
    scores: dict[str, list[Array]] = {metric.name: [] for metric in METRICS}
    classes: Scores = {}
    for split in sorted({stratum.split for stratum in strata}):
        mine = {s.cls: total for s, total in zip(strata, totals, strict=True) if s.split == split}
        whole = np.sum(list(mine.values()), axis=0)
        classes |= {cls: MIOU.of(total) for cls, total in mine.items()}
        for metric in METRICS:
            each = [whole] if metric.pooled else list(mine.values())
            scores[metric.name].append(np.mean([metric.of(total) for total in each], axis=0))
    return {name: np.mean(values, axis=0) for name, values in scores.items()}, classes


def percentiles(values: Array, confidence: float) -> tuple[float, float]:
    """The bounds between which ``confidence`` (0 to 1) of ``values`` lie, the tails being equal."""
    tail = 50.0 * (1 - confidence)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
