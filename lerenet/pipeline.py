"""The stages: names, order, groups, which compute on a GPU, and what runs them. `dvc.yaml` says what depends on what.

The command line, the flows and the report read this table; a new stage is a row here, a module in
`lerenet/stages/`, and an entry in `dvc.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

BASE, CELL = "SPLIT-BACKBONE", "SPLIT-BACKBONE-RECIPE-SHOTS-SEED"


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    Attributes:
        name: as in ``dvc.yaml``; the command has hyphens.
        group: of the flow that runs it.
        about: one line, for the command's help.
        run: module in `lerenet.stages`, and function.
        key: what its key is made of; empty for a stage that runs once.
        gpu: whether it trains or predicts.
        said: its name on the command line, where a command for people has its own.
    """

    name: str
    group: str
    about: str
    run: tuple[str, str]
    key: str = ""
    gpu: bool = False
    said: str = ""

    @property
    def command(self) -> str:
        """Its name on the command line."""
        return self.said or self.name.replace("_", "-")

    @property
    def module(self) -> str:
        """The module that holds it."""
        return self.run[0]

    def __call__(self, *key: str) -> None:
        """Run it, for one ``key`` where it has one."""
        getattr(import_module(f"lerenet.stages.{self.run[0]}"), self.run[1])(*key)


STAGES = (
    Stage(
        "catalog", "folds", "Index every image and mask: class, group, size, foreground share, digests.",
        ("catalog", "run"),
    ),
    Stage("validate", "folds", "Check the catalogue with Great Expectations.", ("validate", "run")),
    Stage(
        "profile", "profile", "Measure brightness, contrast and embedding of the defect images, for the drift report.",
        ("profile", "run"), gpu=True,
    ),
    Stage("folds", "folds", "Make class-disjoint splits and freeze the evaluation episodes.", ("folds", "run")),
    Stage("validate_folds", "folds", "Check splits and episodes with Great Expectations.", ("validate", "run_folds")),
    Stage(
        "pretrain", "pretraining", f"Pretrain a backbone on a split's base classes (KEY: {BASE}).",
        ("pretrain", "run"), key=BASE, gpu=True,
    ),
    Stage(
        "features", "training", f"Fill the cache of frozen features (KEY: {BASE}).", ("features", "run"),
        key=BASE, gpu=True,
    ),
    Stage(
        "train", "training", f"Train one cell episodically (KEY: {CELL}).", ("train", "run"), key=CELL, gpu=True,
    ),
    Stage(
        "ship", "training", "Train the shipping cell on every class, at the length its folds found.",
        ("train", "run_ship"), gpu=True,
    ),
    Stage(
        "floors", "evaluation", "Score what needs no training (KEY: FOLD-BACKBONE).", ("evaluate", "run_floors"),
        key="FOLD-BACKBONE", gpu=True,
    ),
    Stage(
        "evaluate", "evaluation", f"Score a trained cell on its fold's frozen test episodes (KEY: {CELL}).",
        ("evaluate", "run"), key=CELL, gpu=True,
    ),
    Stage(
        "enrol", "enrolment", "Learn every class for the live model: memory, reader, thresholds.", ("enrol", "run"),
        gpu=True, said="enrol-all",
    ),
    Stage(
        "inspect", "enrolment", "Score the live model on each image, left out.", ("inspect", "run"), said="inspect-all",
    ),
    Stage("report", "evaluation", "Write the report page, DVC metrics and plots.", ("report", "run")),
)  # fmt: skip


def groups() -> dict[str, tuple[str, ...]]:
    """Names of the stages of each group, both in the pipeline's order."""
    by_group: dict[str, tuple[str, ...]] = {}
    for stage in STAGES:
        by_group[stage.group] = (*by_group.get(stage.group, ()), stage.name)
    return by_group


def position(name: str) -> int:
    """Where a stage stands in the pipeline; after the last for one that is not known."""
    return next((i for i, stage in enumerate(STAGES) if stage.name == name), len(STAGES))
