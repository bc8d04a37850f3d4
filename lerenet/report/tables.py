"""The report's numbers as plain rows: what the page, ``metrics.json`` and the markdown all print."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lerenet.evaluation.metrics import METRICS, MIOU, Metric
from lerenet.params import Params
from lerenet.pipeline import position
from lerenet.report.choose import of_its_shots
from lerenet.report.findings import Finding
from lerenet.report.intervals import ALL, Interval, Intervals
from lerenet.report.load import Loaded, Model

NUMBERED = re.compile(r"table(\d+)")  # names of the paper's tables in params.yaml


@dataclass(frozen=True)
class Score:
    """A score in points of IoU (0 to 100) with its interval, if one is known."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        """One decimal."""
        return f"{self.value:.1f}"

    @property
    def interval(self) -> str:
        """``low to high``, or nothing."""
        return "" if self.low is None or self.high is None else f"{self.low:.1f} to {self.high:.1f}"


@dataclass(frozen=True)
class MainRow:
    """One row of a table: mIoU a fold, then every metric's mean over the folds; means over the seeds.

    Attributes:
        scores: metric -> mean, protocol "groups".
        paper: metric -> mean, protocol "paper".
    """

    model: Model
    folds: list[Score | None]
    scores: dict[str, Score | None]
    paper: dict[str, Score | None]
    missing: int  # folds without a result
    spread: Interval | None = None  # of the mean mIoU over training seeds: smallest and largest

    @property
    def mean(self) -> Score | None:
        """mIoU, protocol "groups"."""
        return self.scores[MIOU.name]


def _score(row: Mapping[Any, Any], metric: Metric) -> Score | None:
    if row.get(metric.name) is None or pd.isna(row[metric.name]):
        return None
    bounds = [None if row.get(key) is None or pd.isna(row[key]) else float(row[key]) for key in metric.bounds]
    return Score(float(row[metric.name]), bounds[0], bounds[1])


def _rows_of(loaded: Loaded, model: Model, shots: int, protocol: str) -> pd.DataFrame:
    rows = loaded.scores
    wanted = (rows["model_id"] == model.id) & (rows["shots"] == shots) & (rows["protocol"] == protocol)
    return rows[wanted]


def _by_fold(rows: pd.DataFrame, metric: Metric, folds: Sequence[str]) -> list[Score | None]:
    """Scores a fold: of one seed as its stage wrote them, of several their mean, without an interval."""
    by_fold: dict[str, Score | None] = {}
    for split, part in rows.groupby("split"):
        if len(part) == 1:
            by_fold[str(split)] = _score(part.to_dict("records")[0], metric)
        else:
            by_fold[str(split)] = Score(float(part[metric.name].mean()))
    return [by_fold.get(fold) for fold in folds]


def _with_interval(score: Score | None, interval: Interval | None) -> Score | None:
    if score is None or interval is None:
        return score
    return Score(score.value, interval.low, interval.high)


def _fold_scores(
    rows: pd.DataFrame, model: Model, shots: int, intervals: Intervals, folds: Sequence[str]
) -> list[Score | None]:
    scores = _by_fold(rows, MIOU, folds)
    for place, (fold, score) in enumerate(zip(folds, scores, strict=True)):
        if score is not None and score.low is None:
            limits = intervals.scores.get((model.id, shots, fold), {})
            scores[place] = _with_interval(score, limits.get(MIOU.name))
    return scores


def _mean(scores: list[Score | None], interval: Interval | None = None) -> Score | None:
    values = [score.value for score in scores if score is not None]
    return _with_interval(Score(sum(values) / len(values)), interval) if values else None


def _spread(rows: pd.DataFrame) -> Interval | None:
    """Smallest and largest mean mIoU of the seeds that have every fold; None for fewer than two."""
    whole = rows["split"].nunique()
    means = [
        float(part[MIOU.name].mean()) for _, part in rows.groupby("seed") if part["split"].nunique() == whole
    ]
    return Interval(min(means), max(means)) if len(means) > 1 else None


def main_rows(loaded: Loaded, shots: int, intervals: Intervals) -> list[MainRow]:
    """Rows of the main table for one number of shots; models without any result there are left out."""
    rows = [_main_row(loaded, model, shots, intervals) for model in loaded.models]
    return [row for row in rows if row.mean is not None or row.paper[MIOU.name] is not None]


def _main_row(loaded: Loaded, model: Model, shots: int, intervals: Intervals) -> MainRow:
    groups, paper = (_rows_of(loaded, model, shots, protocol) for protocol in ("groups", "paper"))
    asked = loaded.folds_asked
    folds = _fold_scores(groups, model, shots, intervals, asked)
    limits = intervals.scores.get((model.id, shots, ALL), {}) if any(folds) else {}
    scores = {
        metric.name: _mean(_by_fold(groups, metric, asked), limits.get(metric.name)) for metric in METRICS
    }
    means = {metric.name: _mean(_by_fold(paper, metric, asked)) for metric in METRICS}
    return MainRow(model, folds, scores, means, folds.count(None), _spread(groups))


def summary(rows: list[MainRow], params: Params, shots: int) -> list[MainRow]:
    """The rows of the main table: recipes that stand in a table of their own are left to it.

    Those are the recipes of the numbered tables that neither the summary nor the shipped cell names.
    """
    kept = {params.ship.recipe, *(params.tables["summary"].recipes if "summary" in params.tables else ())}
    numbered = [table for name, table in params.tables.items() if NUMBERED.fullmatch(name)]
    elsewhere = {recipe for table in numbered for recipe in table.recipes} - kept
    shown = of_its_shots([row.model for row in rows], shots)
    return [row for row in rows if row.model in shown and row.model.recipe not in elsewhere]


def class_folds(loaded: Loaded) -> dict[str, str]:
    """Class to the fold in which it is novel, ordered by fold and name."""
    pairs: list[tuple[str, str]] = []
    if loaded.catalog is not None:
        pairs = [
            (f"fold{int(fold)}", str(cls))
            for fold, cls in set(zip(loaded.catalog["fold"], loaded.catalog["cls"], strict=True))
        ]
    elif not loaded.scores.empty:
        rows = loaded.scores[["split", "classes"]].to_dict("records")
        pairs = list({(str(row["split"]), str(cls)) for row in rows for cls in row["classes"]})
    return {cls: fold for fold, cls in sorted(pairs)}


def class_scores(loaded: Loaded, shots: int) -> dict[str, dict[str, float]]:
    """Model id to IoU of each class (points), protocol "groups"; means over the seeds."""
    rows = loaded.scores
    if rows.empty:
        return {}
    wanted = rows[(rows["shots"] == shots) & (rows["protocol"] == "groups")]
    by_model: dict[str, dict[str, list[float]]] = {}
    for row in wanted.to_dict("records"):
        for cls, value in row["classes"].items():
            by_model.setdefault(str(row["model_id"]), {}).setdefault(cls, []).append(float(value))
    return {
        name: {cls: sum(values) / len(values) for cls, values in classes.items()}
        for name, classes in by_model.items()
    }


@dataclass(frozen=True)
class CleanRow:
    """Clean queries of one model; shares between 0 and 1."""

    model: Model
    shots: int
    episodes: int
    false_share: float
    images_clean_share: float

    @property
    def text(self) -> str:
        """Share of the pixels falsely marked; share of the images left clean."""
        return f"{100 * self.false_share:.1f} %; {100 * self.images_clean_share:.0f} %"


def clean_rows(loaded: Loaded) -> list[CleanRow]:
    """Clean queries with a defect support, all folds together, weighted by the number of episodes."""
    rows = []
    for shots in loaded.shots:
        for model in loaded.models:
            row = _clean_row(loaded, model, shots)
            rows += [row] if row else []
    return rows


def _clean_row(loaded: Loaded, model: Model, shots: int) -> CleanRow | None:
    wanted = _rows_of(loaded, model, shots, "groups")
    clean = [
        (str(row["split"]), row["clean"])
        for row in wanted[["split", "clean"]].to_dict("records")
        if isinstance(row["clean"], dict) and row["clean"].get("n")
    ]
    total = sum(int(value["n"]) for _, value in clean)
    if not total:
        return None

    def mean(name: str) -> float:
        return float(sum(value[name] * value["n"] for _, value in clean) / total)

    episodes = sum({split: int(value["n"]) for split, value in clean}.values())  # of each seed the same
    return CleanRow(model, shots, episodes, mean("false_share"), mean("images_clean_share"))


def stage_seconds(loaded: Loaded) -> list[tuple[str, int, float]]:
    """Stage, number of cells and wall time (seconds, summed over cells), in the pipeline's order."""
    table: dict[str, list[float]] = {}
    for run in loaded.runs:
        table.setdefault(str(run["stage"]), []).append(float(run["seconds"]))
    names = sorted(table, key=lambda name: (position(name), name))
    return [(name, len(table[name]), sum(table[name])) for name in names]


def metrics(
    main: dict[int, list[MainRow]], clean: list[CleanRow], findings: list[Finding], folds: Sequence[str]
) -> dict[str, float]:
    """Flat numbers for DVC: ``<model>.<K>shot.miou``, its ``folds`` and bounds, clean queries, gain."""
    flat: dict[str, float] = {}
    for shots, rows in main.items():
        for row in rows:
            key = f"{row.model.id}.{shots}shot"
            named = {f"{fold}.{MIOU.name}": score for fold, score in zip(folds, row.folds, strict=True)}
            named |= row.scores | {f"paper_protocol.{MIOU.name}": row.paper[MIOU.name]}
            for name, score in named.items():
                flat |= _flat(f"{key}.{name}", score)
            if row.spread:
                flat |= {
                    f"{key}.{MIOU.name}_lowest_seed": row.spread.low,
                    f"{key}.{MIOU.name}_highest_seed": row.spread.high,
                }
    for each in clean:
        key = f"{each.model.id}.{each.shots}shot.clean"
        flat |= {f"{key}.false_share": each.false_share, f"{key}.images_clean_share": each.images_clean_share}
    for finding in findings:
        gain = finding.gain
        key = f"{finding.model.id}.{finding.shots}shot.gain_over_{finding.floor.id}"
        flat |= _flat(key, Score(gain.gain, gain.low, gain.high))
    return {key: round(value, 6) for key, value in flat.items()}


def _flat(key: str, score: Score | None) -> dict[str, float]:
    if score is None:
        return {}
    if score.low is None or score.high is None:
        return {key: score.value}
    return {key: score.value, f"{key}_low": score.low, f"{key}_high": score.high}
