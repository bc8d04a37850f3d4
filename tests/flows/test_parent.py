"""The retraining's run in MLflow: children beneath it, a verdict at its end, never left running."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flows import parent
from flows.parent import close_left, note, retraining_run
from lerenet.params import Params
from lerenet.registry.gate import Verdict
from lerenet.tracking import runs, stage_run, store

PARAMS = Params()


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__NAME", "retrain 2026-11-28 data 3f5a52b4")
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", "1234")
    (project / "data.dvc").write_text("outs:\n- md5: 3f5a52b4\n")
    return project


def found(run_id: str | None) -> Any:
    return store.client_of().get_run(run_id)


def killed() -> runs.StageRun:
    """A retraining's run after SIGKILL."""
    run = runs.StageRun(parent.STAGE, "", {"data": "3f5a52b4", "folds": []}, {})
    run.start(PARAMS.experiment)
    return run


def test_stages_are_children_and_the_verdict_is_told() -> None:
    Path("dvc.lock").write_text("stages:\n  catalog:\n    deps:\n    - path: data\n      md5: 3f5a\n")
    with retraining_run(PARAMS, "ada") as run:
        with stage_run("train", "k", Path("out"), PARAMS, settings={}) as child:
            pass
        note(run, "7", Verdict("rejected", ("worse", "slower"), scores={"miou": 40.0}))
    assert runs.PARENT not in os.environ
    seen = found(run.run_id)
    assert (seen.info.run_name, seen.info.status) == ("retrain 2026-11-28 data 3f5a52b4", "FINISHED")
    tags = seen.data.tags
    said = {name: tags[name] for name in ("data", "operator", "flow_run_id", "version", "verdict")}
    assert said == {
        "data": "3f5a", "operator": "ada", "flow_run_id": "1234", "version": "7", "verdict": "rejected"
    }  # fmt: skip
    assert tags["verdict_reasons"] == "worse; slower"
    assert "git_commit" in tags
    assert seen.data.metrics == {"miou": 40.0}
    assert found(child.run_id).data.tags["mlflow.parentRunId"] == run.run_id


def test_one_that_was_killed_goes_on_in_its_run() -> None:
    first = killed()
    with pytest.raises(ZeroDivisionError), retraining_run(PARAMS, "ada"):
        raise ZeroDivisionError
    assert found(first.run_id).info.status == "FAILED"
    with retraining_run(PARAMS, "ada") as run:
        pass
    assert run.run_id == first.run_id
    assert found(run.run_id).info.status == "FINISHED"
    assert "error" not in found(run.run_id).data.tags


def test_one_that_was_killed_before_other_data_came_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = killed()
    Path("data.dvc").write_text("outs:\n- md5: other\n")
    with monkeypatch.context() as patch:
        patch.setattr(store, "reachable", lambda _uri: False)  # and MLflow is down meanwhile
        with pytest.raises(ZeroDivisionError), retraining_run(PARAMS, "ada"):
            raise ZeroDivisionError
    assert found(first.run_id).info.status == "RUNNING"
    with retraining_run(PARAMS, "ada") as run:
        pass
    assert found(first.run_id).info.status == "KILLED"
    assert found(run.run_id).info.status == "FINISHED"


def test_one_that_was_killed_after_its_last_step_is_closed_where_nothing_is_left_to_do() -> None:
    close_left(PARAMS)  # none: nothing happens
    first = killed()
    close_left(PARAMS)
    assert found(first.run_id).info.status == "KILLED"
    assert not (first.folder / "attempt.json").exists()


def test_mlflow_that_is_down_stops_no_retraining(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(store.VARIABLE, "http://127.0.0.1:9")
    with retraining_run(PARAMS, "ada") as run:
        assert runs.PARENT not in os.environ
        note(run, "7", Verdict("rejected", ("worse",)))
    close_left(PARAMS)
    assert "no MLflow at" in caplog.text
