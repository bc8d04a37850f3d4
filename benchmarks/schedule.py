"""A training of the paper's length, as the stage runs it: wall time, steps, seconds a step."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path

from benchmarks.project import DEVICE, Project
from benchmarks.results import Row, Section
from lerenet import layout
from lerenet.features.live import LiveSource
from lerenet.features.store import FeatureStore
from lerenet.params import TrainSettings
from lerenet.progress import progress
from lerenet.training.trainer import Trainer


def measure(project: Project, epochs: int, bound: int) -> Section:
    """Train one fold for ``epochs`` passes over its base images, or for ``bound`` steps of them.

    Validation after every epoch and checkpoints are in it, filling the cache is told apart.
    """
    settings = project.settings.model_copy(update={"epochs": epochs, "episodes_per_epoch": 0})
    began = time.perf_counter()
    store = _filled(project, settings.backbone_lr_scale > 0)
    filled = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(project, store, settings, bound, Path(folder))
        with progress("schedule", trainer.stop_epoch * trainer.steps) as trainer.tick:
            began = time.perf_counter()
            curve = trainer.run()
            wall = time.perf_counter() - began
    rows = [*_rows(trainer, curve, wall), Row("filling what the cache lacked", "s", (filled,), "once")]
    return Section(f"Schedule: {project.recipe}, {project.backbone}, {project.fold}", rows)


def _filled(project: Project, trained: bool) -> FeatureStore:
    backbone = project.new_backbone(project.model)
    project.store(backbone, project.split["base"], views=True, pictures=trained)
    return project.store(backbone, project.split["validation"], views=False)


def _trainer(
    project: Project, store: FeatureStore, settings: TrainSettings, bound: int, folder: Path
) -> Trainer:
    sampler = project.sampler(settings.batch, settings.clean_share)
    stop = min(settings.epochs, math.ceil(bound / sampler.steps)) if bound else settings.epochs
    held = project.catalog[project.catalog["cls"].isin(project.split["validation"])]
    trained = settings.backbone_lr_scale > 0
    return Trainer(
        head=project.new_head(project.model, store.backbone), store=store, sampler=sampler, settings=settings,
        validation=project.chosen("validation", min(project.params.episodes.shots)),
        live=LiveSource(layout.DATA, held, project.params) if trained else None,
        folder=folder, device=DEVICE, seed=project.params.seed, stop_epoch=stop,
    )  # fmt: skip


def _rows(trainer: Trainer, curve: list[dict[str, float | int | None]], wall: float) -> list[Row]:
    stop, epochs = trainer.stop_epoch, trainer.settings.epochs
    steps = stop * trainer.steps
    training = sum(float(row["seconds"] or 0.0) for row in curve)
    batch = trainer.settings.batch
    return [
        Row("wall time", "s", (wall,), f"{stop} of {epochs} epochs"),
        Row("steps", "steps", (float(steps),), f"{trainer.steps} an epoch, batch {batch}"),
        Row("episodes", "episodes/s", (batch * steps / wall,), "with validation"),
        Row("a step", "s", (wall / steps,), "with validation"),
        Row("a step, training alone", "s", (training / steps,)),
        Row("the whole schedule, at this rate", "min", (wall / stop * epochs / 60,)),
        Row("best validation mIoU", "points", (trainer.best["miou"],), f"epoch {trainer.best['epoch']}"),
    ]
