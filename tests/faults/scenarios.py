"""Work worth killing, on tiny data: each knows its points, its work, and what must hold afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from lerenet import layout
from lerenet.files import sha256_file
from lerenet.models import serialization as loading
from lerenet.params import load_params
from lerenet.registry import ledger, registering, served
from lerenet.registry.candidate import collect
from lerenet.registry.promote import promote
from lerenet.training import checkpoint
from tests.faults import invariants
from tests.faults.points import Point, arm, patch
from tests.helpers import pipeline
from tests.helpers import registry as registry_fixture

CELL = "fold0-efficientnet_lite0-lerenet-1-0"


class Scenario:
    """One kind of work in the folder ``root / work``, begun each time from the same snapshot."""

    name = ""
    points: tuple[str, ...] = ()

    def __init__(self, root: Path) -> None:
        self.root = root / self.name
        self.root.mkdir(parents=True)
        self.work, self.snapshot = self.root / "work", self.root / "snapshot"

    def enter(self) -> None:
        """In a child: stand in the folder, with nothing of the surroundings' settings."""
        for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DVC_STAGE"):
            os.environ.pop(variable, None)
        os.chdir(self.work)

    def prepare(self) -> None:
        """In a child, once: make the state that every kill begins with."""

    def reset(self) -> None:
        """Bring the state back."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.snapshot, self.work, symlinks=True)

    def run(self) -> None:
        """In a child: the work."""
        raise NotImplementedError

    def arm(self, point: Point) -> None:
        """In a child: let the work die at ``point``."""
        arm(point)

    def after_kill(self) -> list[str]:
        """In a child: violations right after the kill."""
        return invariants.half_written(self.work)

    def after_repeat(self) -> list[str]:
        """In a child: violations once the same command ran again."""
        return invariants.half_written(self.work) + invariants.leftovers(self.work)


class Promotion(Scenario):
    """Registration, gate, tags, ledger and alias of a better candidate; version 1 is champion."""

    name = "promotion"
    _client = "mlflow.tracking:MlflowClient"
    points = (
        "lerenet.registry.registering:_package@1/before",
        "lerenet.registry.registering:_package@1/after",
        "lerenet.registry.served:save@1/after",
        f"{_client}.create_run@1/after",
        f"{_client}.log_model_artifacts@1/before",
        "shutil:copyfile@3/after",
        f"{_client}.log_model_artifacts@1/after",
        f"{_client}.create_model_version@1/before",
        f"{_client}.create_model_version@1/after",
        f"{_client}.set_model_version_tag@1/after",
        f"{_client}.set_model_version_tag@3/before",
        "lerenet.registry.versions:set_tags@1/after",
        "lerenet.registry.ledger:append@1/before",
        "lerenet.registry.ledger:os.fsync@2/before",
        "lerenet.registry.ledger:os.fsync@2/torn",
        "lerenet.registry.ledger:append@1/after",
        "lerenet.registry.versions:describe@1/after",
        "lerenet.registry.versions:set_champion@1/before",
        "lerenet.registry.versions:set_champion@1/after",
    )

    def enter(self) -> None:
        super().enter()
        loading.load_network = registry_fixture.load_network
        served.answer = registry_fixture.answer

    def prepare(self) -> None:
        registry_fixture.make_project(Path.cwd(), quality=0.5)
        self.run()
        registry_fixture.make_project(Path.cwd(), quality=0.8)

    def run(self) -> None:
        params = load_params(layout.PARAMS)
        promote(registering.register(collect(params), params), params, operator="faults")

    def after_kill(self) -> list[str]:
        return super().after_kill() + invariants.registry_agrees()

    def after_repeat(self) -> list[str]:
        return super().after_repeat() + invariants.registry_agrees() + invariants.promoted("2", 2)


class Training(Scenario):
    """The stage ``train`` of one tiny cell, a checkpoint after every step."""

    name = "training"
    points = (
        "lerenet.training.trainer:Trainer._step@3/before",
        "lerenet.training.trainer:Trainer._step@9/after",
        "lerenet.training.trainer:Trainer._record@1/after",
        "lerenet.training.trainer:Trainer._record@2/before",
        "lerenet.training.trainer:Trainer._record@2/after",
        "lerenet.training.checkpoint:torch.save@1/before",
        "lerenet.training.checkpoint:torch.save@1/after",
        "lerenet.training.checkpoint:save@1/after",
        "lerenet.training.checkpoint:save@5/before",
        "lerenet.files:os.fsync@4/before",
        "lerenet.files:os.replace@6/before",
        "lerenet.files:os.replace@6/after",
        "lerenet.stages.train:save_network@1/before",
        "lerenet.stages.train:save_network@1/after",
        "lerenet.stages.train:write_json@1/before",
        "lerenet.stages.train:write_json@1/after",
        "lerenet.tracking.runs:StageRun.finish@1/before",
        "lerenet.tracking.runs:StageRun.finish@1/after",
        "lerenet.training.checkpoint:clear@1/before",
        "lerenet.training.checkpoint:clear@1/after",
        "torch:save@2/torn",
    )

    def prepare(self) -> None:
        from lerenet.stages import catalog, features, folds, pretrain

        pipeline.make_project(Path.cwd(), dataset={})
        catalog.run()
        folds.run()
        pretrain.run(CELL.partition("-lerenet")[0])
        features.run(CELL.partition("-lerenet")[0])
        shutil.copytree(self.work, self.root / "undisturbed", dirs_exist_ok=True)
        os.chdir(self.root / "undisturbed")
        self.run()
        os.chdir(self.work)

    def run(self) -> None:
        from lerenet.stages import train as stage
        from lerenet.training import trainer as train

        train.CHECKPOINT_SECONDS = 0.0
        patch("lerenet.training.checkpoint:save", self._told)
        stage.run(CELL)

    def _told(self, real: Any) -> Any:
        """Write down each step whose checkpoint stands."""

        def save(folder: Path, state: dict[str, Any], step: int) -> Path:
            path: Path = real(folder, state, step)
            Path("saving.txt").write_text(f"{step} {state['fingerprint']}")
            os.replace("saving.txt", "saved.txt")
            return path

        return save

    def after_kill(self) -> list[str]:
        found = super().after_kill()
        finished = (layout.TRAIN / CELL / "run.json").exists()
        if finished or not Path("saved.txt").exists():
            return found
        step, fingerprint = Path("saved.txt").read_text().split(" ")
        state = checkpoint.load_latest(layout.CHECKPOINTS / "train" / CELL, fingerprint)
        reached = -1 if state is None else max(int(p.stem[4:]) for p in self._checkpoints())
        if reached < int(step):
            found.append(f"lost: the checkpoint of step {step} stood, {reached} is the newest")
        return found

    def _checkpoints(self) -> list[Path]:
        return list((layout.CHECKPOINTS / "train" / CELL).glob("step*.pt"))

    def after_repeat(self) -> list[str]:
        return super().after_repeat() + self.differences() + [f"left: {p}" for p in self._checkpoints()]

    def differences(self) -> list[str]:
        """Weights by their bytes, and the curve but for its times, beside those of the undisturbed run."""
        mine, other = layout.TRAIN / CELL, self.root / "undisturbed" / layout.TRAIN / CELL
        found = []
        if sha256_file(mine / "model/weights.safetensors") != sha256_file(
            other / "model/weights.safetensors"
        ):
            found.append("the weights differ from those of an undisturbed run")
        curves = [pd.read_csv(folder / "curve.csv").drop(columns="seconds") for folder in (mine, other)]
        return found if curves[0].equals(curves[1]) else [*found, "the curve differs"]


class Ledger(Scenario):
    """Twenty entries, each told to a file once `append` came back."""

    name = "ledger"
    points = (
        "lerenet.registry.ledger:os.fsync@7/before",
        "lerenet.registry.ledger:os.fsync@7/after",
        "lerenet.registry.ledger:json.dumps@9/before",
        "lerenet.registry.ledger:os.fsync@8/torn",
    )
    COUNT = 20

    def run(self) -> None:
        for number in range(self.COUNT):
            entry = {"event": "decide", "version": str(number), "reason": "x" * 200}
            identity = hashlib.sha256(json.dumps(entry).encode()).hexdigest()
            ledger.append({"id": identity, **entry})
            Path("telling.txt").write_text(str(number))
            os.replace("telling.txt", "told.txt")

    def after_kill(self) -> list[str]:
        told = Path("told.txt")
        last = int(told.read_text()) if told.exists() else -1
        versions = [int(entry["version"]) for entry in ledger.read()]
        if versions[: last + 1] != list(range(last + 1)) or len(versions) > last + 2:
            return [f"told {last}, the ledger holds {versions}"]
        return []

    def after_repeat(self) -> list[str]:
        versions = [int(entry["version"]) for entry in ledger.read()]
        return [] if versions == list(range(self.COUNT)) else [f"the ledger holds {versions}"]


def named(scenario: Scenario) -> list[Point]:
    """The scenario's named points."""
    return [Point.parse(text) for text in scenario.points]
