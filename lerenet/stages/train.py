"""Stages ``train@<cell>`` and ``ship``: episodic training of one cell of the grid."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pandas as pd

from lerenet import layout, tracking
from lerenet.cells import Cell, ship_cells
from lerenet.data.folds import asked
from lerenet.data.sampler import EpisodeSampler
from lerenet.device import pick_device, seed_step
from lerenet.features.live import LiveSource
from lerenet.features.store import FeatureStore
from lerenet.files import atomic_path, read_json, write_json
from lerenet.models import create_model
from lerenet.models.config import NetworkConfig, recipe_network
from lerenet.models.serialization import save_network
from lerenet.params import Params
from lerenet.progress import progress
from lerenet.stages.common import Inputs
from lerenet.stages.recipes import cell_backbone
from lerenet.tracking import StageRun
from lerenet.training import checkpoint
from lerenet.training.trainer import CurveRow, Trainer


def run(key: str) -> None:
    """Train a cell of a fold; its weights are those of the best epoch on the validation episodes, where there are any.

    A split of the known classes has none: its weights are the last ones.
    """
    inputs, cell = Inputs.load(), Cell.parse(key)
    recipe_network(inputs.params, cell.recipe)  # or it is refused, before anything is written
    split = inputs.split(cell.split)
    _run("train", inputs, cell, split["base"], validate=bool(split["validation"]), stop=None)


def run_ship() -> None:
    """Train the shipping cell on every class, as long as its folds needed (median of their best epochs)."""
    inputs = Inputs.load()
    cells = ship_cells(inputs.params)
    split = inputs.split("all")
    folds = [cell for name, cell in cells.items() if name != "all"]
    epochs = [read_json(layout.TRAIN / cell.key / "metrics.json")["best_epoch"] for cell in folds]
    stop = statistics.median_low(epochs)
    _run(
        "ship",
        inputs,
        cells["all"],
        sorted([*split["base"], *split["validation"]]),
        validate=False,
        stop=stop,
    )


def _run(
    stage: str, inputs: Inputs, cell: Cell, classes: list[str], validate: bool, stop: int | None
) -> None:
    params, out = inputs.params, layout.TRAIN / cell.key
    settings = params.train_settings(cell.recipe)
    recorded: dict[str, Any] = {
        "train": settings.model_dump(),
        "recipe": params.recipes[cell.recipe].model_dump(),
        "classes": classes,
    }
    recorded |= {"split": cell.split, "backbone": cell.backbone, "shots": cell.shots, "seed": cell.seed}
    with tracking.stage_run(stage, cell.key, out, params, settings=recorded) as run:
        for name, digest in inputs.datasets().items():
            run.set_dataset(name, digest)
        trainer = _trainer(inputs, cell, classes, validate, stop, layout.CHECKPOINTS / stage / cell.key)
        trainer.on_epoch = lambda row: run.log_metrics(_numbers(row), step=int(row["epoch"] or 0))
        with progress(f"{stage} {cell.key}", trainer.stop_epoch * trainer.steps) as tick:
            trainer.tick = tick
            curve = trainer.run()
        _write(trainer, curve, inputs, cell, classes, out, run)
    checkpoint.clear(trainer.folder)


def _trainer(
    inputs: Inputs, cell: Cell, classes: list[str], validate: bool, stop: int | None, folder: Path
) -> Trainer:
    params = inputs.params
    settings = params.train_settings(cell.recipe)
    backbone = cell_backbone(params, cell).to(pick_device())
    trained = settings.backbone_lr_scale > 0
    seed_step(cell.seed, 0, 0)
    channels = dict(zip(backbone.levels, backbone.channels, strict=True))
    network = recipe_network(params, cell.recipe)
    head = create_model(network, channels, params.image_size).to(pick_device())
    masked = "masked" in head.reads
    known = inputs.trained_on(cell.split)
    store = FeatureStore(backbone, inputs.catalog, params, layout.DATA, normals=known)
    split = inputs.split(cell.split)
    watched = _watched(inputs, cell) if settings.watch else {}
    scored = [*(split["validation"] if validate else []), *(asked(split) if watched else [])]
    held = [cls for cls in scored if cls not in classes]
    total = store.size(classes, augmented=True, masked=masked) + store.size(held, masked=masked)
    with progress(f"features {cell.key}", total) as store.tick:
        store.ensure(classes, augmented=True, pictures=trained, masked=masked)
        store.ensure(held, masked=masked)
    sampler = EpisodeSampler(
        known, classes, cell.shots, params.views.count, settings.batch,
        settings.clean_share, cell.seed, settings.episodes_per_epoch, settings.episodes_per_query,
    )  # fmt: skip
    validation = inputs.chosen(cell.split, "validation", kind="defect", shots=_validation_shots(params, cell))
    rows = inputs.catalog[inputs.catalog["cls"].isin(scored)]
    return Trainer(
        head=head, store=store, sampler=sampler, settings=settings, validation=validation if validate else None,
        live=LiveSource(layout.DATA, rows, params, rows[rows["image"].isin(known["image"])])
        if trained and len(rows) else None,
        model=network.model_dump(mode="json"), watched=watched, folder=folder,
        device=pick_device(), seed=cell.seed, stop_epoch=settings.epochs if stop is None else stop,
    )  # fmt: skip


def _watched(inputs: Inputs, cell: Cell) -> dict[str, pd.DataFrame]:
    """The test episodes of the cell's shots by protocol; those of a query's first supports alone."""
    shots = _validation_shots(inputs.params, cell)
    episodes = inputs.chosen(cell.split, "test", kind="defect", shots=shots).drop_duplicates(
        ["protocol", "query"]
    )
    return {str(name): rows.reset_index(drop=True) for name, rows in episodes.groupby("protocol")}


def _validation_shots(params: Params, cell: Cell) -> int:
    return cell.shots if cell.shots in params.episodes.shots else min(params.episodes.shots)


def _numbers(row: CurveRow) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if value is not None and name != "epoch"}


def _resolved(trainer: Trainer, network: NetworkConfig) -> NetworkConfig:
    """The levels, turns and stride that were trained with: a later version may choose others."""
    seen = trainer.store.backbone
    used = {"levels": trainer.head.levels, "turns": seen.turns, "stride": seen.stride}
    return network.model_copy(update=used)


def _write(
    trainer: Trainer,
    curve: list[CurveRow],
    inputs: Inputs,
    cell: Cell,
    classes: list[str],
    out: Path,
    run: StageRun,
) -> None:
    params = inputs.params
    config = {
        "cell": cell.key,
        "model": _resolved(trainer, recipe_network(params, cell.recipe)).model_dump(),
        "backbone": cell.backbone,
        "image_size": params.image_size,
        "shots": cell.shots,
        "classes_seen": sorted({*classes, *inputs.split(cell.split)["base"]}),
        "datasets": inputs.datasets(),
    }
    sha = save_network(out / "model", trainer.head, trainer.store.backbone, config)
    with atomic_path(out / "curve.csv") as temporary:
        pd.DataFrame(curve).to_csv(temporary, index=False)
    metrics = {
        "best_epoch": trainer.best["epoch"],
        "miou_validation": trainer.best["miou"],
        "loss": curve[-1]["loss"],
        "parameters": sum(p.numel() for p in trainer.modules.parameters() if p.requires_grad),
        "weights_sha256": sha,
    }
    write_json(out / "metrics.json", metrics)
    run.log_metrics({name: float(v) for name, v in metrics.items() if isinstance(v, int | float)})
    run.log_artifact(out / "model")
    run.log_artifact(out / "curve.csv")
