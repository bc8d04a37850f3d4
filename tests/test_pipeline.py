"""Slow: `dvc repro` from nothing to the report, run twice, and killed in the middle of training."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

from lerenet.files import read_json
from tests.pipeline import environment, make_dvc_project, run

pytestmark = pytest.mark.slow
KEY = "efficientnet_lite0-lerenet-1-0"


def weights(project: Path, split: str) -> dict[str, object]:
    return dict(
        load_file(project / "artifacts" / "train" / f"{split}-{KEY}" / "model" / "weights.safetensors")
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_dvc_project(tmp_path_factory.mktemp("whole") / "project")
    run(project, "dvc", "repro")
    return project


def test_a_fresh_project_runs_to_the_report(whole: Path) -> None:
    page = (whole / "artifacts" / "report" / "report.html").read_text(encoding="utf-8")
    assert "matching" in page
    metrics = read_json(whole / "artifacts" / "report" / "metrics.json")
    assert "lerenet.1shot.miou" in metrics
    for split in ("fold0", "fold1", "fold2", "all"):
        assert weights(whole, split)
    shipped = read_json(whole / "artifacts" / "train" / f"all-{KEY}" / "model" / "config.json")
    assert len(shipped["classes_seen"]) == 12


def test_a_second_repro_does_nothing(whole: Path) -> None:
    lock = (whole / "dvc.lock").read_bytes()
    done = run(whole, "dvc", "repro")
    assert "Data and pipelines are up to date" in done.stdout
    assert (whole / "dvc.lock").read_bytes() == lock


def test_a_lost_output_comes_back_from_the_cache_with_its_run(whole: Path) -> None:
    import shutil

    before = read_json(whole / "artifacts" / "train" / f"fold0-{KEY}" / "run.json")
    shutil.rmtree(whole / "artifacts" / "train")
    run(whole, "dvc", "repro")
    assert read_json(whole / "artifacts" / "train" / f"fold0-{KEY}" / "run.json") == before


def curve(project: Path, split: str) -> pd.DataFrame:
    """Loss and validation mIoU of each epoch."""
    return pd.read_csv(project / "artifacts" / "train" / f"{split}-{KEY}" / "curve.csv").drop(
        columns="seconds"
    )


def test_a_killed_repro_resumes_to_the_same_weights(whole: Path, tmp_path: Path) -> None:
    project = make_dvc_project(tmp_path / "killed")
    checkpoints = project / ".checkpoints" / "train" / f"fold1-{KEY}"
    child = subprocess.Popen(
        ["dvc", "repro"], cwd=project, env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 400
    while not list(checkpoints.glob("step*.pt")):
        assert child.poll() is None, "dvc repro ended before a checkpoint was seen"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not (project / "artifacts" / "train" / f"fold1-{KEY}" / "model").exists()
    run(project, "dvc", "repro")
    for split in ("fold0", "fold1", "fold2", "all"):
        mine, theirs = weights(project, split), weights(whole, split)
        assert mine.keys() == theirs.keys()
        assert all((mine[name] == theirs[name]).all() for name in mine), split  # type: ignore[attr-defined]
        pd.testing.assert_frame_equal(
            curve(project, split), curve(whole, split)
        )  # of every epoch, kept or not


def test_bad_data_stop_the_pipeline_with_the_row(tmp_path: Path) -> None:
    project = make_dvc_project(tmp_path / "bad")
    from PIL import Image

    mask = next((project / "data" / "C03" / "GT").glob("*.png"))
    Image.new("L", (64, 64), 0).save(mask)
    run(project, "dvc", "commit", "-q", "-f", "data.dvc")
    done = run(project, "dvc", "repro", check=False)
    assert done.returncode != 0
    assert mask.stem in done.stderr + done.stdout
    assert (project / "artifacts" / "validation" / "result.json").exists()
    assert not (project / "artifacts" / "folds").exists()


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101", "vgg16"])
def test_other_backbones_and_both_presets_run_from_random_weights(tmp_path: Path, backbone: str) -> None:
    small = {"name": "lerenet", "grid": 8, "width": 8}
    recipes = {
        "paper": {
            "model": {**small, "preset": "paper"},
            "train": {"optimizer": "sgd", "lr": 0.005, "loss": "bce"},
        },
        "authors": {
            "model": {"name": "lerenet", "preset": "authors", "grid": 8},
            "train": {"optimizer": "sgd", "lr": 0.005, "batch": 2, "loss": "bce", "backbone_lr_scale": 0.1},
        },
    }
    project = make_dvc_project(
        tmp_path / "project",
        init="random",
        recipes=recipes,
        grid={
            "folds": ["fold0"],
            "splits": ["fold0"],
            "backbones": [backbone],
            "recipes": ["paper", "authors"],
        },
        ship={"recipe": "paper", "backbone": backbone},
        train={"epochs": 1, "episodes_per_epoch": 4, "batch": 2},
    )
    run(
        project,
        "dvc",
        "repro",
        f"evaluate@fold0-{backbone}-paper-1-0",
        f"evaluate@fold0-{backbone}-authors-1-0",
    )
    for recipe in recipes:
        rows = read_json(
            project / "artifacts" / "evaluate" / f"fold0-{backbone}-{recipe}-1-0" / "summary.json"
        )
        assert {row["shots"] for row in rows} == {1, 2}
