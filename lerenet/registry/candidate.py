"""What is offered for registration: the trained folders, their scores and where they came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import yaml

from lerenet import layout
from lerenet.cells import Cell, ship_cells
from lerenet.data.dataset import read_about
from lerenet.errors import ParamsError, TrackingError
from lerenet.evaluation.metrics import MIOU
from lerenet.evaluation.resampling import interval
from lerenet.files import read_json
from lerenet.params import Fold, Params, SplitName
from lerenet.tracking.git import git_state

LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Candidate:
    """A model to register.

    Attributes:
        cell: Key of the shipping cell.
        model: Its model folder.
        folds: Split name to the model folder of that fold.
        counts: Rows a gate compares: test episodes of the folds, protocol "groups", one model.
        scores: mIoU and FB-IoU with intervals (`lerenet.evaluation.resampling.interval`).
        classes: IoU of each class, in points.
        floors: mIoU of each model without training, mean over the folds.
        lineage: Tags of the version, all text.
        dataset: Name and licence of the data.
        latency_ms: Time for an episode during evaluation, the slowest fold.
        live: class -> what the live model says of its images, each left out (``inspect/summary.json``).
        validated: Whether both validation stages passed.
    """

    cell: str
    model: Path
    folds: Mapping[str, Path]
    counts: pd.DataFrame
    scores: Mapping[str, float]
    classes: Mapping[str, float]
    floors: Mapping[str, float]
    lineage: Mapping[str, str]
    dataset: Mapping[str, str]
    latency_ms: float
    live: Mapping[str, Any]
    validated: bool


def require_ship(params: Params) -> None:
    """Refuse a grid without the shipping cell: its outputs would be those of an older state of data or code.

    Raises:
        ParamsError: a list of ``grid`` lacks what ``ship`` needs.
    """
    ship, grid = params.ship, params.grid
    needed = {
        "folds": get_args(Fold), "splits": get_args(SplitName), "backbones": (ship.backbone,),
        "recipes": (ship.recipe,), "shots": (ship.shots,), "seeds": (ship.seed,),
    }  # fmt: skip
    for name, values in needed.items():
        if missing := [str(value) for value in values if value not in getattr(grid, name)]:
            raise ParamsError(
                f"{layout.PARAMS}: grid.{name} lacks {', '.join(missing)}, which the model to ship needs",
                "add it: the folds of that model are what it is judged by",
            )


def gate_rows(counts: pd.DataFrame, shots: int) -> pd.DataFrame:
    """Rows of ``counts`` that the gate reads: protocol "groups" at ``shots``, or the fewest there are."""
    rows = counts[counts["protocol"] == "groups"]
    kept = shots if (rows["shots"] == shots).any() else rows["shots"].min()
    return rows[rows["shots"] == kept].reset_index(drop=True)


def collect(params: Params) -> Candidate:
    """Gather the candidate from the artifacts of the last ``dvc repro``.

    Raises:
        LerenetError: when a stage's output is missing or of other episodes; the message names the file.
        ParamsError: see `require_ship`.
    """
    require_ship(params)
    for path in (layout.INSPECT / "counts.parquet", layout.INSPECT / "summary.json"):
        if not path.exists():
            raise TrackingError(f"{path}: not found", "run `dvc repro` first")
    cells = ship_cells(params)
    folds = {name: cell for name, cell in cells.items() if name != "all"}
    counts = pd.concat([_counts(cell) for cell in folds.values()], ignore_index=True)
    counts = gate_rows(counts, params.ship.shots)
    defects = counts[counts["kind"] == "defect"]
    resampling = params.evaluation
    scores = interval(defects, draws=resampling.draws, seed=params.seed, confidence=resampling.confidence)
    shots = int(counts["shots"].iloc[0])
    summaries = [
        row for cell in folds.values() for row in read_json(layout.EVALUATE / cell.key / "summary.json")
    ]
    classes = {
        cls: float(iou)
        for row in summaries
        if row["protocol"] == "groups" and row["shots"] == shots
        for cls, iou in row["classes"].items()
    }
    return Candidate(
        cell=cells["all"].key,
        model=layout.TRAIN / cells["all"].key / "model",
        folds={name: layout.TRAIN / cell.key / "model" for name, cell in folds.items()},
        counts=counts,
        scores=scores,
        classes=classes,
        floors=_floors(folds, shots),
        lineage=lineage(params),
        dataset=_dataset(),
        latency_ms=float(np.max([_metrics(cell).get("ms_per_episode", np.nan) for cell in folds.values()])),
        live=read_json(layout.INSPECT / "summary.json"),
        validated=all(_passed(folder) for folder in (layout.VALIDATION, layout.FOLDS_VALIDATION)),
    )


def _counts(cell: Cell) -> pd.DataFrame:
    folder = layout.EVALUATE / cell.key
    path = folder / "counts.parquet"
    if not path.exists():
        raise TrackingError(f"{path}: not found", "run `dvc repro` first")
    episodes, now = read_json(folder / "about.json")["episodes"], episodes_digest()
    if episodes != now:
        raise TrackingError(f"{path}: of episodes {episodes}, the folds are {now}", "run `dvc repro` first")
    return pd.read_parquet(path)


def episodes_digest() -> str:
    """The digest of the frozen episodes on disk."""
    return str(read_json(layout.FOLDS / "folds.json")["digest"])


def _metrics(cell: Cell) -> dict[str, Any]:
    metrics: dict[str, Any] = read_json(layout.EVALUATE / cell.key / "metrics.json")
    return metrics


def _floors(folds: Mapping[str, Cell], shots: int) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for cell in folds.values():
        path = layout.FLOORS / cell.base / "summary.json"
        for row in read_json(path) if path.exists() else []:
            if row["protocol"] == "groups" and row["shots"] == shots:
                scores.setdefault(row["model"], []).append(row[MIOU.name])
    return {name: float(np.mean(values)) for name, values in scores.items()}


def _passed(folder: Path) -> bool:
    path = folder / "result.json"
    return path.exists() and bool(read_json(path).get("success"))


def _dataset() -> dict[str, str]:
    return {"name": "unknown", "licence": "unknown", **read_about(layout.DATA)}


def lineage(params: Params) -> dict[str, str]:
    """Where the candidate came from: the tags that every registered version carries."""
    cells = ship_cells(params)
    ship = cells["all"]
    return {
        "cell": ship.key,
        "lock": lock_hash(params),
        "data_md5": locked_data_md5() or layout.data_md5(),
        "episodes_digest": episodes_digest(),
        "evaluation_code": evaluation_code(params),
        "params_hash": settings_hash(params.model_dump(mode="json")),
        "training_run": _run_id(layout.TRAIN / ship.key),
        "pretraining_run": _run_id(layout.PRETRAIN / ship.base),
        **git_state(),
    }


def settings_hash(settings: Mapping[str, Any]) -> str:
    """32 hex characters of all settings, as JSON holds them."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def _run_id(folder: Path) -> str:
    path = folder / "run.json"
    run_id = read_json(path).get("mlflow_run_id") if path.exists() else None
    return str(run_id or "untracked")


def locked_data_md5() -> str:
    """The hash of the data that the pipeline indexed last, as ``dvc.lock`` has it, or nothing."""
    try:
        deps = _locked()["catalog"]["deps"]
        return str(next(dep["md5"] for dep in deps if dep["path"] == layout.DATA.as_posix()))
    except (TrackingError, KeyError, TypeError, StopIteration):
        return ""


def lock_hash(params: Params, text: str | None = None) -> str:
    """SHA-256 of what ``dvc.lock`` says of the shipping model, its folds and all they come from.

    ``text`` is that of another ``dvc.lock`` than the project's.
    Stages that the shipping model doesn't depend on (other recipes, the report) change nothing.

    Raises:
        TrackingError: when ``dvc.lock`` is missing or lacks one of these stages.
    """
    stages = _locked(text)
    wanted = ["ship", "inspect", *_evaluations(params)]
    missing = [name for name in wanted if name not in stages]
    if missing:
        raise TrackingError(f"{LOCK}: no stage {', '.join(missing)}", "run `dvc repro` first")
    kept = {name: stages[name] for name in _upstream(stages, wanted)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def evaluation_code(params: Params) -> str:
    """32 hex characters of the code that ``dvc.lock`` has for the evaluations of the shipping model's folds.

    Counts that other code made are not of one kind: what a network's answer is made of may have changed.
    """
    stages = _locked()
    deps = [dep for name in _evaluations(params) for dep in stages.get(name, {}).get("deps", [])]
    code = sorted({(dep["path"], dep["md5"]) for dep in deps if _inside(dep["path"], "lerenet")})
    return settings_hash({"code": code})


def _evaluations(params: Params) -> list[str]:
    return [f"evaluate@{cell.key}" for name, cell in ship_cells(params).items() if name != "all"]


def _locked(text: str | None = None) -> dict[str, Any]:
    try:
        text = LOCK.read_text(encoding="utf-8") if text is None else text
        stages: dict[str, Any] = yaml.safe_load(text)["stages"]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise TrackingError(f"{LOCK}: not found or unreadable", "run `dvc repro` first") from error
    return stages


def _upstream(stages: Mapping[str, Any], wanted: list[str]) -> set[str]:
    """``wanted`` and every stage whose output one of them reads, directly or not."""
    outs = {out["path"]: name for name, stage in stages.items() for out in stage.get("outs", [])}
    upstream, waiting = set(wanted), list(wanted)
    while waiting:
        for dep in stages[waiting.pop()].get("deps", []):
            for path, maker in outs.items():
                related = _inside(dep["path"], path) or _inside(path, dep["path"])
                if related and maker not in upstream:
                    upstream.add(maker)
                    waiting.append(maker)
    return upstream


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
