"""A whole small project on disk, for tests that run stages or `dvc repro`."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lerenet.params import Params
from tests.helpers import PROJECT
from tests.helpers.factories import tiny_dataset

SOURCE = PROJECT
SMALL: dict[str, Any] = {
    "image_size": 64,
    "levels": [1, 2, 3],
    "grid": {"backbones": ["efficientnet_lite0"], "recipes": ["lerenet"]},
    "validation": {"min_images": 4, "near_duplicate_bits": 0},
    "episodes": {"shots": [1, 2], "per_query": 1, "validation_classes": 2},
    "views": {"count": 1},
    "pretrain": {"epochs": 1},
    "train": {"epochs": 2, "batch": 8},
    "recipes": {"lerenet": {"model": {"name": "lerenet", "side": 8, "width": 8}}},
    "enrolment": {"steps": 20, "shared": 2},
    "evaluation": {"draws": 200},
}


FEW = {"classes": 9, "defect": 4, "clean": 1}  # enough for three folds, two classes held out and two shots


def make_project(folder: Path, dataset: Mapping[str, int] = FEW, **changes: Any) -> Path:
    """A folder with params.yaml and a tiny data set, ``dataset`` saying how many of what."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_dataset(folder / "data", **dataset)
    write_params(folder, **changes)
    return folder


def write_params(folder: Path, **changes: Any) -> None:
    """params.yaml of a small project, with changes at its top level."""
    whole = Params.model_validate({**SMALL, **changes}).model_dump(mode="json")  # dvc.yaml reads every key
    (folder / "params.yaml").write_text(yaml.safe_dump(whole))


def drawn_project(folder: Path, store: Path, **changes: Any) -> Path:
    """A small project after the stages ``catalog`` and ``folds``.

    Those two run once in a test process, so the changes must leave alone what they read. ``store`` is the fixture
    ``mlflow_template``.
    """
    shutil.copytree(_drawn(store), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("ml*"))
    shutil.copyfile(store, folder / "mlflow.db")
    write_params(folder, **changes)
    return folder


@cache
def _drawn(store: Path) -> Path:
    from lerenet.stages import catalog, folds

    folder = make_project(store.parent / "drawn")
    shutil.copyfile(store, folder / "mlflow.db")
    with contextlib.chdir(folder):
        catalog.run()
        folds.run()
    return folder


def make_dvc_project(folder: Path, **changes: Any) -> Path:
    """`make_project` with 12 classes as a git and DVC project with this project's dvc.yaml and code."""
    tiny_dataset(folder / "data")
    return as_dvc_project(folder, **changes)


def as_dvc_project(folder: Path, **changes: Any) -> Path:
    """A folder with ``data/`` as a git and DVC project: settings of a small one, this project's dvc.yaml and code."""
    write_params(folder, **changes)
    shutil.copytree(SOURCE / "lerenet", folder / "lerenet", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copyfile(SOURCE / name, folder / name)
    run(folder, "git", "init", "-q")
    run(folder, "git", "config", "user.email", "test@example.invalid")
    run(folder, "git", "config", "user.name", "test")
    run(folder, "dvc", "init", "-q")
    run(folder, "dvc", "add", "-q", "data")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "start")
    return folder


def add_flows(project: Path) -> None:
    """What the standing services read beside the project: the flows and their deployments."""
    shutil.copytree(SOURCE / "flows", project / "flows")
    shutil.copyfile(SOURCE / "prefect.yaml", project / "prefect.yaml")


def environment() -> dict[str, str]:
    """The environment of a child: this interpreter's programs first, no outside tracker, no word of pytest."""
    outside = ("MLFLOW_", "DVC_", "PYTEST_")  # NiceGUI serves nothing where it sees pytest's
    kept = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


def run(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program in ``folder``; its output is in the error when it fails."""
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done
