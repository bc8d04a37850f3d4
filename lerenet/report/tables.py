"""The report's numbers as plain rows: what the page, ``metrics.json`` and the markdown all print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lerenet.params import Params
from lerenet.report.findings import Finding
from lerenet.report.intervals import Interval, intervals_of
from lerenet.report.load import FOLD_NAMES, Loaded, Model


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
    """One model in the main table: mIoU a fold, their mean, FB-IoU, and protocol "paper"."""

    model: Model
    folds: list[Score | None]
    mean: Score | None
    fb: Score | None
    paper_mean: Score | None
    paper_fb: Score | None
    missing: int  # folds without a result


def _score(row: Mapping[Any, Any], name: str, low: str, high: str) -> Score | None:
    if row.get(name) is None or pd.isna(row[name]):
        return None
    bounds = [None if row.get(key) is None or pd.isna(row[key]) else float(row[key]) for key in (low, high)]
    return Score(float(row[name]), bounds[0], bounds[1])


def _by_fold(loaded: Loaded, model: Model, shots: int, protocol: str, name: str) -> list[Score | None]:
    rows = loaded.scores
    wanted = rows[(rows["model_id"] == model.id) & (rows["shots"] == shots) & (rows["protocol"] == protocol)]
    short = name.removesuffix("_iou")
    found = {
        row["split"]: _score(row, name, f"{short}_low", f"{short}_high") for row in wanted.to_dict("records")
    }
    return [found.get(fold) for fold in FOLD_NAMES]


def _mean(scores: list[Score | None], interval: Interval | None = None) -> Score | None:
    known = [score.value for score in scores if score is not None]
    if not known:
        return None
    low, high = (interval.low, interval.high) if interval else (None, None)
    return Score(sum(known) / len(known), low, high)


def main_rows(loaded: Loaded, shots: int, params: Params) -> list[MainRow]:
    """Rows of the main table for one number of shots; models without any result there are left out."""
    rows = []
    for model in loaded.models:
        folds = _by_fold(loaded, model, shots, "groups", "miou")
        paper = _by_fold(loaded, model, shots, "paper", "miou")
        if not any(folds) and not any(paper):
            continue
        pooled = intervals_of(loaded.counts_of(model.id, shots), params) if any(folds) else None
        fb = _by_fold(loaded, model, shots, "groups", "fb_iou")
        paper_fb = _by_fold(loaded, model, shots, "paper", "fb_iou")
        rows.append(
            MainRow(
                model,
                folds,
                _mean(folds, pooled.miou if pooled else None),
                _mean(fb, pooled.fb_iou if pooled else None),
                _mean(paper),
                _mean(paper_fb),
                folds.count(None),
            )
        )
    return rows


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
    """Model id to IoU of each class (points), protocol "groups"."""
    rows = loaded.scores
    if rows.empty:
        return {}
    wanted = rows[(rows["shots"] == shots) & (rows["protocol"] == "groups")]
    table: dict[str, dict[str, float]] = {}
    for row in wanted.to_dict("records"):
        table.setdefault(str(row["model_id"]), {}).update(row["classes"])
    return table


@dataclass(frozen=True)
class CleanRow:
    """Clean queries of one model; shares between 0 and 1."""

    model: Model
    shots: int
    episodes: int
    false_share: float
    images_clean_share: float


def clean_rows(loaded: Loaded) -> list[CleanRow]:
    """Clean queries with a defect support, all folds together, weighted by the number of episodes."""
    rows = []
    for shots in loaded.shots:
        for model in loaded.models:
            row = _clean_row(loaded.scores, model, shots)
            rows += [row] if row else []
    return rows


def _clean_row(scores: pd.DataFrame, model: Model, shots: int) -> CleanRow | None:
    wanted = scores[
        (scores["model_id"] == model.id) & (scores["shots"] == shots) & (scores["protocol"] == "groups")
    ]
    known = [value for value in wanted["clean"] if isinstance(value, dict) and value.get("n")]
    total = sum(int(value["n"]) for value in known)
    if not total:
        return None

    def mean(name: str) -> float:
        return float(sum(value[name] * value["n"] for value in known) / total)

    return CleanRow(model, shots, total, mean("false_share"), mean("images_clean_share"))


@dataclass(frozen=True)
class SeedRow:
    """Spread of a recipe's mean mIoU over training seeds."""

    name: str
    shots: int
    seeds: int
    mean: float
    low: float
    high: float


def seed_rows(main: dict[int, list[MainRow]]) -> list[SeedRow]:
    """Recipes that were trained with more than one seed: mean, smallest and largest mean mIoU."""
    spread = []
    for shots, rows in main.items():
        groups: dict[str, list[float]] = {}
        for row in rows:
            if row.model.floor or row.mean is None or row.missing:
                continue
            name = f"{row.model.recipe}, {row.model.backbone}, trained with {row.model.trained_shots}"
            groups.setdefault(name, []).append(row.mean.value)
        spread += [
            SeedRow(name, shots, len(v), sum(v) / len(v), min(v), max(v))
            for name, v in groups.items()
            if len(v) > 1
        ]
    return spread


def stage_seconds(loaded: Loaded) -> list[tuple[str, int, float]]:
    """Stage, number of cells and wall time (seconds, summed over cells), in the pipeline's order."""
    order = [
        "catalog",
        "validate",
        "folds",
        "validate-folds",
        "pretrain",
        "features",
        "train",
        "ship",
        "floors",
    ]
    table: dict[str, list[float]] = {}
    for run in loaded.runs:
        table.setdefault(str(run["stage"]), []).append(float(run["seconds"]))
    rank = {name: place for place, name in enumerate([*order, "evaluate", "report"])}
    names = sorted(table, key=lambda name: (rank.get(name.replace("_", "-"), len(rank)), name))
    return [(name, len(table[name]), sum(table[name])) for name in names]


def metrics(main: dict[int, list[MainRow]], clean: list[CleanRow], found: list[Finding]) -> dict[str, float]:
    """Flat numbers for DVC: ``<model>.<K>shot.miou``, its folds and bounds, clean queries, gain."""
    flat: dict[str, float] = {}
    for shots, rows in main.items():
        for row in rows:
            key = f"{row.model.id}.{shots}shot"
            named = {f"{fold}.miou": score for fold, score in zip(FOLD_NAMES, row.folds, strict=True)}
            named |= {"miou": row.mean, "fb_iou": row.fb, "paper_protocol.miou": row.paper_mean}
            for name, score in named.items():
                flat |= _flat(f"{key}.{name}", score)
    for each in clean:
        key = f"{each.model.id}.{each.shots}shot.clean"
        flat |= {f"{key}.false_share": each.false_share, f"{key}.images_clean_share": each.images_clean_share}
    for finding in found:
        gain = finding.gain
        key = f"{finding.model.id}.{finding.shots}shot.gain_over_matching"
        flat |= _flat(key, Score(gain.gain, gain.low, gain.high))
    return {key: round(value, 6) for key, value in flat.items()}


def _flat(key: str, score: Score | None) -> dict[str, float]:
    if score is None:
        return {}
    if score.low is None or score.high is None:
        return {key: score.value}
    return {key: score.value, f"{key}_low": score.low, f"{key}_high": score.high}
