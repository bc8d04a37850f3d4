"""The groups of stages, each a flow that can be scheduled alone; its numbers stand in Prefect as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prefect import flow

from flows.mirror import mirror
from flows.naming import named
from flows.runners import LOCAL
from flows.tabulate import publish, read_metrics
from lerenet import layout
from lerenet.evaluation.metrics import NAMES


@flow(name="fold-splitting", flow_run_name=named("fold-splitting"))
def fold_splitting(jobs: int = 2, force: bool = False, runner: str = LOCAL) -> list[str]:
    """Run the stages ``catalog``, ``validate``, ``folds`` and ``validate_folds``."""
    done = mirror(["folds"], jobs, force, runner)
    publish("folds", fold_rows(), "Classes of each split: base (trained on), validation, novel (tested)")
    return done


def fold_rows() -> list[dict[str, Any]]:
    """One row a split."""
    path = layout.FOLDS / "folds.json"
    if not path.exists():
        return []
    folds = json.loads(path.read_text(encoding="utf-8"))
    roles = ("base", "validation", "novel")
    return [
        {
            "split": split,
            **{role: ", ".join(classes.get(role, [])) for role in roles},
            "digest": folds["digest"],
        }
        for split, classes in folds["splits"].items()
    ]


@flow(name="backbone-pretraining", flow_run_name=named("backbone-pretraining"))
def backbone_pretraining(jobs: int = 1, force: bool = False, runner: str = LOCAL) -> list[str]:
    """Run the stages ``pretrain@…`` and what they need."""
    done = mirror(["pretraining"], jobs, force, runner)
    publish("backbone-pretraining", read_metrics(layout.PRETRAIN), "Pretrained backbones, one row each")
    return done


@flow(name="episodic-training", flow_run_name=named("episodic-training"))
def episodic_training(jobs: int = 1, force: bool = False, runner: str = LOCAL) -> list[str]:
    """Run the stages ``features@…``, ``train@…``, ``ship`` and what they need."""
    done = mirror(["training"], jobs, force, runner)
    publish("episodic-training", read_metrics(layout.TRAIN), "Trained cells, one row each")
    return done


@flow(name="evaluation", flow_run_name=named("evaluation"))
def evaluation(jobs: int = 1, force: bool = False, runner: str = LOCAL) -> list[str]:
    """Run the stages ``floors@…``, ``evaluate@…``, ``report`` and what they need."""
    done = mirror(["evaluation"], jobs, force, runner)
    rows = score_rows(layout.EVALUATE) + score_rows(layout.FLOORS)
    publish("evaluation", rows, "Scores in points of IoU with intervals, one row a model, split and shots")
    return done


@flow(name="enrolment", flow_run_name=named("enrolment"))
def enrolment(jobs: int = 1, force: bool = False, runner: str = LOCAL) -> list[str]:
    """Run the stages ``enrol``, ``inspect`` and what they need."""
    done = mirror(["enrolment"], jobs, force, runner)
    publish("enrolment", class_rows(), "What the live model says of each class's images, each left out")
    return done


def class_rows() -> list[dict[str, Any]]:
    """One row a class, shares in percent and rounded."""
    path = layout.INSPECT / "summary.json"
    if not path.exists():
        return []
    summary = json.loads(path.read_text(encoding="utf-8"))
    return [
        {"class": cls}
        | {
            name: round(value, 1) if isinstance(value, float) else value
            for name, value in row.items()
            if not isinstance(value, dict)
        }
        for cls, row in summary.items()
    ]


def score_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of every ``summary.json`` inside ``folder``, scores rounded."""
    return [
        {name: row[name] for name in ("model", "split", "protocol", "shots", "episodes")}
        | {name: round(row[name], 2) for name in NAMES}
        for path in sorted(folder.glob("*/summary.json"))
        for row in json.loads(path.read_text(encoding="utf-8"))
    ]
