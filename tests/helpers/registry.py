"""A project after ``dvc repro``, in miniature: artifacts, ``dvc.lock`` and a store to register into."""

from __future__ import annotations

import json
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from safetensors.torch import load_file, save_file

from lerenet import layout
from lerenet.cells import ship_cells
from lerenet.enrolment.enrol import learn
from lerenet.enrolment.enrolled import CLASSES, NETWORK, Enrolled, Image, Left, save_enrolled
from lerenet.enrolment.material import described_by
from lerenet.enrolment.verdicts import left_out, scores
from lerenet.files import sha256_file, write_json
from lerenet.models.serialization import LoadedNetwork
from lerenet.params import EnrolmentSettings, Params, load_params
from lerenet.registry import served
from lerenet.registry.registered import INSPECTED
from tests.helpers.counts import make_counts
from tests.helpers.enrolment import SIZE, material_like


class Blank(torch.nn.Identity):
    """A backbone and a head without weights."""

    turns, stride, levels = 1, None, ()


class Threshold(torch.nn.Module):
    """A network whose only weight is the brightness below which a pixel is defect."""

    def __init__(self, level: torch.Tensor) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(level)
        self.backbone = Blank()
        self.head = Blank()

    def enrol(self, images: torch.Tensor, masks: torch.Tensor) -> int:
        assert images.shape[:2] == masks.shape[:2]
        return images.shape[1]

    def segment(self, state: int, query: torch.Tensor) -> torch.Tensor:
        return 4 * (self.level - query.mean(dim=1))


def load_network(folder: Path, sha256: str | None = None) -> LoadedNetwork:
    """Stands in for `lerenet.models.serialization.load_network`."""
    level = load_file(folder / "weights.safetensors")["level"]
    return LoadedNetwork(Threshold(level).eval(), SIZE)


def load_model(uri: str) -> Any:
    """An MLflow model in this process, where the stand-in is known; the code that it carries leaves the path again."""
    path = sys.path[:]
    try:
        return served.pyfunc().load_model(uri)
    finally:
        sys.path[:] = path


def answer(model: Path) -> str | None:
    """Stands in for `lerenet.registry.served.answer`, which asks a process of its own."""
    from mlflow.exceptions import MlflowException

    try:
        found = load_model(str(model))
    except MlflowException:
        return None
    finally:
        shutil.rmtree(model / "__pycache__", ignore_errors=True)
    mask: str = found.predict(found.input_example)["mask"][0]
    return mask


def begin(folder: Path, project: Path) -> Path:
    """An empty project like the fixture ``project``, in a folder of its own beside which others may lie."""
    folder.mkdir(parents=True)
    for name in ("mlflow.db", "params.yaml"):
        shutil.copyfile(project / name, folder / name)
    return folder


def make_project(
    root: Path, *, quality: float = 0.6, digest: str = "e" * 32, seed: int = 0, code: str = "c" * 32
) -> Params:
    """Write what the stages would leave in ``root``; a better ``quality`` scores higher."""
    (root / "params.yaml").write_text("gate: {draws: 500}\nevaluation: {draws: 500}\n")
    params = load_params(root / "params.yaml")
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "dataset.yaml").write_text("name: tiny\nlicence: CC0-1.0\n")
    (root / "data.dvc").write_text("outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: data\n")
    write_json(root / layout.FOLDS / "folds.json", {"digest": digest, "splits": {}, "classes": {}})
    for folder in (layout.VALIDATION, layout.FOLDS_VALIDATION):
        write_json(root / folder / "result.json", {"success": True})
    counts = make_counts(seed=1, queries=6, quality=quality)
    stages: dict[str, Any] = {}
    for split, cell in ship_cells(params).items():
        _model(root / layout.TRAIN / cell.key, cell.key, 0.3 + quality / 100 + seed / 1000)
        name = "ship" if split == "all" else f"evaluate@{cell.key}"
        stages[name] = {
            "cmd": "x",
            "deps": [{"path": "lerenet/models", "md5": code}],
            "outs": [{"path": f"artifacts/{name}", "md5": f"{quality}-{seed}-{digest}"}],
        }
        if split != "all":
            _evaluation(root / layout.EVALUATE / cell.key, counts[counts["split"] == split], digest)
    stages["inspect"] = {"cmd": "x", "outs": [{"path": "artifacts/inspect", "md5": "f" * 32}]}
    _inspection(root, params)
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    return params


def _model(folder: Path, key: str, level: float) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "model").mkdir(parents=True)
    weights = folder / "model" / "weights.safetensors"
    save_file({"level": torch.tensor(level)}, weights)
    config = {"cell": key, "image_size": SIZE, "weights_sha256": sha256_file(weights), "classes_seen": []}
    write_json(folder / "model" / "config.json", config)
    write_json(folder / "run.json", {"mlflow_run_id": "a" * 32})


def _inspection(root: Path, params: Params) -> None:
    """A live model that knows one class, and what it says of its images."""
    for folder in (layout.ENROL, layout.INSPECT):
        shutil.rmtree(root / folder, ignore_errors=True)
    _model(root / layout.ENROL, "enrol", 0.5)
    (root / layout.ENROL / "model").rename(root / layout.ENROL / NETWORK)
    settings = params.enrolment.model_copy(update={"steps": 0, "curve": ()})
    enrolled, left, rows = _blob(settings.model_dump_json())
    save_enrolled(root / layout.ENROL / CLASSES, enrolled, left)
    (root / layout.INSPECT).mkdir(parents=True)
    rows.to_parquet(root / layout.INSPECT / INSPECTED, index=False)
    given = {"examples": 6, "good": 6, "reader": enrolled.reader}
    write_json(root / layout.INSPECT / "summary.json", {"Blob": {**scores(rows), **given}})


@cache
def _blob(settings_json: str) -> tuple[Enrolled, Left, pd.DataFrame]:
    """The one class: every project that a process makes has the same."""
    settings = EnrolmentSettings.model_validate_json(settings_json)
    groups = [f"g{place}" for place in range(12)]
    material = material_like(groups, [place < 6 for place in range(12)])
    images = [Image(f"Blob/{group}", f"{place:064x}", group) for place, group in enumerate(groups)]
    network = described_by(LoadedNetwork(Threshold(torch.tensor(0.5)), SIZE))
    enrolled, left = learn("Blob", material, images, network, settings)
    rows = left_out(left.readings, settings.false_calls, settings.reviews).assign(cls="Blob")
    return enrolled, left, rows


def _evaluation(folder: Path, counts: pd.DataFrame, digest: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    counts.to_parquet(folder / "counts.parquet")
    row = {"model": "m", "protocol": "groups", "shots": 1, "miou": 50.0, "classes": {"A0": 51.0}}
    (folder / "summary.json").write_text(json.dumps([row]))
    write_json(folder / "about.json", {"episodes": digest})
    write_json(folder / "metrics.json", {"ms_per_episode": 12.5})
