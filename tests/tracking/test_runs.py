"""Runs in MLflow, and stages that must not care when MLflow is down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lerenet.errors import TrackingError
from lerenet.params import Params
from lerenet.tracking import runs, stage_run, store
from tests.helpers import PROJECT

PARAMS = Params()


def run_json(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def test_a_stage_is_recorded_whole(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train@fold0")
    (project / "notes.txt").write_text("hello")
    settings = {"train": {"lr": 0.1, "loss": "bce"}, "none": None, "long": list(range(1000))}
    with stage_run("train", "fold0", Path("out"), PARAMS, settings=settings, tags={"extra": "1"}) as run:
        for step in range(5):
            run.log_metrics({"loss": 1 / (step + 1)}, step=step)
        run.log_artifact(Path("notes.txt"))
        run.set_dataset("data", "0123456789abcdef0123456789abcdef.dir")
    found = run_json(Path("out"))
    assert found["tracked"] is True
    assert (found["stage"], found["key"]) == ("train", "fold0")
    client = store.client_of()
    seen = client.get_run(found["mlflow_run_id"])
    assert seen.info.run_name == "train@fold0"
    assert seen.info.status == "FINISHED"
    assert seen.data.params["train.lr"] == "0.1"
    assert len(seen.data.params["long"]) <= 500
    assert "cut; sha256" in seen.data.params["long"]
    tags = seen.data.tags
    assert (tags["DVC_STAGE"], tags["stage"], tags["extra"]) == ("train@fold0", "train", "1")
    assert {"git_commit", "git_dirty"} <= tags.keys()
    curve = client.get_metric_history(seen.info.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(s, 1 / (s + 1)) for s in range(5)]
    assert [item.path for item in client.list_artifacts(seen.info.run_id)] == ["notes.txt"]
    assert seen.inputs.dataset_inputs[0].dataset.digest.endswith(".dir")
    assert (project / "mlartifacts").is_dir()


def test_nan_becomes_a_tag_and_never_a_metric(project: Path) -> None:
    with stage_run("train", "", Path("out"), PARAMS, settings={}) as run:
        run.log_metrics({"loss": float("nan"), "miou": 1.0}, step=3)
    seen = store.client_of().get_run(run_json(Path("out"))["mlflow_run_id"])
    assert "loss" not in seen.data.metrics
    assert seen.data.tags["nonfinite.loss"] == "nan at step 3"
    assert seen.info.run_name == "train"


def test_an_exception_marks_the_run_failed_and_writes_no_run_json(project: Path) -> None:
    with pytest.raises(ZeroDivisionError), stage_run("train", "k", Path("out"), PARAMS, settings={}) as run:
        run.log_metrics({"loss": 1.0})
        raise ZeroDivisionError
    seen = store.client_of().get_run(run.run_id)
    assert seen.info.status == "FAILED"
    assert seen.data.metrics == {"loss": 1.0}
    assert not Path("out/run.json").exists()


def test_an_interrupted_stage_continues_its_run(project: Path) -> None:
    """As after kill -9: the attempt is on disk, a line is half written; points are not sent twice."""
    first = runs.StageRun("train", "k", {"lr": 1}, {})
    first.start("lerenet")
    first.log_metrics({"loss": 3.0}, step=0)
    first.log_metrics({"loss": 2.0}, step=1)
    first._upload()
    with (first.folder / "metrics.jsonl").open("a") as handle:
        handle.write('{"name": "lo')
    with stage_run("train", "k", Path("out"), PARAMS, settings={"lr": 1}) as run:
        run.log_metrics({"loss": 2.0}, step=1)
        run.log_metrics({"loss": 1.0}, step=2)
    assert run.run_id == first.run_id
    points = store.client_of().get_metric_history(run.run_id, "loss")
    assert [(point.step, point.value) for point in points] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    with stage_run("train", "k", Path("out"), PARAMS, settings={"lr": 1}) as after:
        pass
    assert after.run_id != run.run_id


def test_other_settings_start_another_run(project: Path) -> None:
    first = runs.StageRun("train", "k", {"lr": 1}, {})
    first.start("lerenet")
    with stage_run("train", "k", Path("out"), PARAMS, settings={"lr": 2}) as run:
        pass
    assert run.run_id != first.run_id


def test_a_dead_server_costs_a_warning_only(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    with stage_run("train", "k", Path("out"), PARAMS, settings={}) as run:
        run.log_metrics({"loss": 1.0}, step=1)
    found = run_json(Path("out"))
    assert (found["tracked"], found["mlflow_run_id"]) == (False, None)
    assert "no MLflow at" in caplog.text
    assert "secret" not in caplog.text
    line = json.loads(Path(".checkpoints/train/k/metrics.jsonl").read_text())
    assert (line["name"], line["step"], line["value"]) == ("loss", 1, 1.0)


def test_a_server_that_dies_midway_does_not_stop_the_stage(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_args: object, **_named: object) -> None:
        raise ConnectionError("gone")

    with stage_run("train", "k", Path("out"), PARAMS, settings={}) as run:
        monkeypatch.setattr(run._client, "log_batch", broken)
        run.log_metrics({"loss": 1.0})
    assert run_json(Path("out"))["tracked"] is False
    assert "gone" in caplog.text


@pytest.mark.parametrize(
    "uri",
    ["./mlruns", "file:///tmp/mlruns", "ftp://host", "http://", "sqlite://", "sqlite:////no/such/folder/m.db",
     "sqlite:///params.yaml", "http://host:port"],
)  # fmt: skip
def test_a_store_that_can_never_work_is_refused_before_the_work(
    project: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    Path("params.yaml").write_text("this is no database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    started = False
    refused = pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI")
    with refused as caught, stage_run("train", "k", Path("out"), PARAMS, settings={}):
        started = True
    assert not started
    assert caught.value.remedy


def test_a_digest_that_mlflow_would_cut_is_refused(project: Path) -> None:
    with pytest.raises(TrackingError, match="36"), stage_run("a", "", Path("o"), PARAMS, settings={}) as run:
        run.set_dataset("data", "x" * 37)


def test_our_processes_read_no_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    store.quiet()
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


CHILDREN = """
import os
import traceback
from pathlib import Path
from lerenet.params import Params
from lerenet.tracking import stage_run, store
store.load()
import mlflow.store.tracking.sqlalchemy_store  # seconds, once and not four times

def work(key):
    with stage_run("train", key, Path("out") / key, Params(), settings={}) as run:
        run.log_metrics({"loss": 1.0})

def child(key):
    try:
        work(key)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)

children = [os.fork() or child(str(n)) for n in range(4)]
statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
assert statuses == [0, 0, 0, 0], statuses
"""


@pytest.mark.whole
def test_four_processes_share_a_fresh_store(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").touch()
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(PROJECT)
    done = subprocess.run([sys.executable, "-c", CHILDREN], cwd=tmp_path, env=environment, timeout=120)
    assert done.returncode == 0
    assert all(run_json(tmp_path / "out" / str(n))["tracked"] for n in range(4))


def test_the_experiments_page_opens_on_runs(project: Path) -> None:
    client, number = store.connect("new")
    assert client.get_experiment(number).tags["mlflow.experimentKind"] == "custom_model_development"
    old = client.create_experiment("old")
    store.connect("old")
    assert client.get_experiment(old).tags["mlflow.experimentKind"] == "custom_model_development"
