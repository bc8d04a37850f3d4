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
from tests.helpers.pipeline import environment, make_dvc_project, run

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
    target = f"evaluate@fold1-{KEY}"
    project = make_dvc_project(tmp_path / "killed")
    checkpoints = project / ".checkpoints" / "train" / f"fold1-{KEY}"
    child = subprocess.Popen(
        ["dvc", "repro", target], cwd=project, env=environment(), start_new_session=True,
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
    run(project, "dvc", "repro", target)
    mine, theirs = weights(project, "fold1"), weights(whole, "fold1")
    assert mine.keys() == theirs.keys()
    assert all((mine[name] == theirs[name]).all() for name in mine)  # type: ignore[attr-defined]
    pd.testing.assert_frame_equal(curve(project, "fold1"), curve(whole, "fold1"))  # every epoch, kept or not


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


def test_other_backbones_and_both_presets_run_from_random_weights(tmp_path: Path) -> None:
    cells = ("resnet50-authors", "resnet101-paper", "vgg16-paper")
    small = {"name": "lerenet", "side": 8, "width": 8}
    recipes = {
        "paper": {
            "model": {**small, "preset": "paper"},
            "train": {"optimizer": "sgd", "lr": 0.005, "loss": "bce"},
        },
        "authors": {
            "model": {"name": "lerenet", "preset": "authors", "side": 8},
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
            "backbones": ["resnet50", "resnet101", "vgg16"],
            "recipes": ["paper", "authors"],
        },
        ship={"recipe": "paper", "backbone": "vgg16"},
        train={"epochs": 1, "episodes_per_epoch": 4, "batch": 2},
    )
    run(project, "dvc", "repro", *(f"evaluate@fold0-{cell}-1-0" for cell in cells))
    for cell in cells:
        rows = read_json(project / "artifacts" / "evaluate" / f"fold0-{cell}-1-0" / "summary.json")
        assert {row["shots"] for row in rows} == {1, 2}
