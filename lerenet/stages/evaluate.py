"""Stages ``evaluate@<cell>`` and ``floors@<fold>-<backbone>``: the frozen test episodes, counted."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from lerenet import layout, tracking
from lerenet.cells import Cell, parse_base
from lerenet.data.folds import asked
from lerenet.device import pick_device
from lerenet.errors import DataError
from lerenet.evaluation.metrics import NAMES
from lerenet.evaluation.protocol import likeness, same_backbone, score_heads, summarise, write_masks
from lerenet.features.store import FeatureStore
from lerenet.files import atomic_path, write_json
from lerenet.models import configure, create_model
from lerenet.models.backbones.factory import Backbone, create_backbone
from lerenet.models.lerenet.relations import matching_config
from lerenet.models.segmenter import Segmenter
from lerenet.models.serialization import load_network
from lerenet.progress import progress
from lerenet.stages.common import Inputs
from lerenet.stages.recipes import cell_backbone, settings_digest

FLOORS = ("all_foreground", "all_background", "prototype", "matching")
Subject = tuple[Segmenter, Backbone]


def run(key: str) -> None:
    """Evaluate a trained cell on the test episodes of its fold."""
    inputs, cell = Inputs.load(), Cell.parse(key)
    network = load_network(layout.TRAIN / key / "model").network
    cached = cell_backbone(inputs.params, cell)
    backbone = cached if same_backbone(network.backbone, cached) else network.backbone
    name = cell.recipe if cell.shots == 1 else f"{cell.recipe}-{cell.shots}shot"
    subjects = {name: (network.head, backbone)}
    about = {"settings": settings_digest(inputs.params, cell)}
    _run("evaluate", key, layout.EVALUATE / key, inputs, cell.split, subjects, name, about)


def run_floors(key: str) -> None:
    """Evaluate what needs no training, pretraining neither: FLOORS, and matching on the default's features."""
    inputs = Inputs.load()
    params = inputs.params
    split, name = parse_base(key)
    turns = configure().turns_on(name)
    backbones = {
        count: create_backbone(name, params.init, params.levels, count).eval() for count in {1, turns}
    }
    channels = dict(zip(backbones[1].levels, backbones[1].channels, strict=True))
    same = matching_config(channels, turns)
    subjects: dict[str, Subject] = {}
    configs = {floor: configure(floor) for floor in FLOORS}
    for floor, config in {**configs, "matching_lerenet": same}.items():
        head = create_model(config, channels, params.image_size)
        subjects[floor] = head, backbones[config.turns_on(name)]
    _run("floors", key, layout.FLOORS / key, inputs, split, subjects, "matching", {})


def _run(
    stage: str,
    key: str,
    out: Path,
    inputs: Inputs,
    split: str,
    subjects: Mapping[str, Subject],
    shown: str,
    about: Mapping[str, str],
) -> None:
    params, device = inputs.params, pick_device()
    with tracking.stage_run(stage, key, out, params, settings={"key": key, "models": list(subjects)}) as run:
        for name, digest in inputs.datasets().items():
            run.set_dataset(name, digest)
        masked = any("masked" in head.reads for head, _ in subjects.values())
        stores: dict[tuple[int, int | None], FeatureStore] = {}
        for _, backbone in subjects.values():
            if (backbone.turns, backbone.stride) not in stores:
                store = FeatureStore(
                    backbone.to(device).eval(),
                    inputs.catalog,
                    params,
                    layout.DATA,
                    normals=inputs.trained_on(split),
                )
                store.ensure(asked(inputs.split(split)), masked=masked)
                stores[backbone.turns, backbone.stride] = store
        placed = {
            name: (head.to(device), stores[backbone.turns, backbone.stride])
            for name, (head, backbone) in subjects.items()
        }
        episodes = inputs.chosen(split, "test")
        if episodes.empty:
            raise DataError(
                f"{split}: no image is asked about, for no part of it is in that fold",
                "import images of more parts, or leave this fold out (`grid.folds`, `--folds` of a table)",
            )
        started = time.monotonic()
        with progress(f"{stage} {key}", len(episodes) * len(subjects)) as tick:
            counts = score_heads(placed, episodes, params.precision, tick)
        seconds = time.monotonic() - started
        rows = summarise(counts, params)
        with atomic_path(out / "counts.parquet") as temporary:
            counts.to_parquet(temporary, index=False)
        write_json(out / "summary.json", rows)
        head, store = placed[shown]
        write_masks(head, store, episodes, params.precision, out / "masks.npz")
        if stage == "floors":
            with atomic_path(out / "likeness.parquet") as temporary:
                likeness(store, episodes).to_parquet(temporary, index=False)
        given = {"episodes": inputs.folds["digest"], "init": params.init, "image_size": params.image_size}
        write_json(out / "about.json", {**given, **about})
        speed = seconds * 1000 / max(1, len(episodes) * len(subjects))
        write_json(out / "metrics.json", {"ms_per_episode": speed, **_flat(rows)})
        run.log_metrics({"ms_per_episode": speed, **_flat(rows)})
        for part in ("counts.parquet", "summary.json", "masks.npz"):
            run.log_artifact(out / part)


def _flat(rows: list[dict[str, object]]) -> dict[str, float]:
    """``<model>.<protocol>.<shots>shot.<score>`` -> points."""
    flat = {}
    for row in json.loads(json.dumps(rows)):
        prefix = f"{row['model']}.{row['protocol']}.{row['shots']}shot"
        for score in NAMES:
            flat[f"{prefix}.{score}"] = float(row[score])
        for cls, value in row["classes"].items():
            flat[f"{prefix}.class.{cls}"] = float(value)
    return flat
