"""Where the mirror runs: threads, or a Dask cluster of real processes with the same results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from prefect.states import Completed, Running
from prefect.task_runners import ThreadPoolTaskRunner

from flows import dvc, mirror, runners
from lerenet.files import read_json, sha256_file
from tests.helpers import PROJECT
from tests.helpers.pipeline import make_dvc_project, run
from tests.helpers.prefect_server import fresh, order, pipeline, prefect_server

__all__ = ["fresh", "pipeline"]  # fixtures


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with prefect_server() as address:
        yield address


@pytest.mark.parametrize("where", ["cloud", "http://host:1", ""])
def test_an_unknown_runner_is_refused_with_what_is_possible(where: str) -> None:
    with pytest.raises(ValueError, match=r"local, dask, or an address as tcp://host:8786"):
        runners.make_runner(where, 1)


def test_threads_by_default_and_processes_or_an_address_for_dask() -> None:
    assert isinstance(runners.make_runner(runners.LOCAL, 3), ThreadPoolTaskRunner)
    own = runners.make_runner(runners.DASK, 3)
    assert own.cluster_kwargs["n_workers"] == 3
    assert own.cluster_kwargs["threads_per_worker"] == 1
    assert own.cluster_kwargs["dashboard_address"] is None  # nothing listens beside the cluster itself
    assert runners.make_runner("tcp://10.0.0.1:8786", 3).address == "tcp://10.0.0.1:8786"


class Fake:
    """A Prefect future: the worker's future, and the state that the server knows."""

    def __init__(self, state: Any) -> None:
        self.state, self.wrapped_future = state, Future[Any]()

    def wait(self) -> None:
        """Nothing to wait for."""


def test_a_lost_worker_is_a_crash_and_not_an_endless_wait() -> None:
    fake: Any = Fake(Running())
    assert runners.outcome(fake) is None
    fake.wrapped_future.set_exception(RuntimeError("killed"))
    state = runners.outcome(fake)
    assert state is not None
    assert state.is_crashed()
    assert "killed" in str(state.message)
    done: Any = Fake(Completed())
    done.wrapped_future.set_result(None)
    assert runners.outcome(done) is done.state


def test_a_worker_without_the_projects_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(dvc.StageError, match="mount the project there"):
        mirror.run_stage.fn("catalog", folder=tmp_path / "nowhere")


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The workers, fresh processes, find this project's code."""
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    yield
    assert os.environ["PYTHONPATH"]


@pytest.mark.slow
@pytest.mark.usefixtures("server", "importable")
def test_a_failure_on_a_cluster_starts_nothing_more(pipeline: Path) -> None:
    text = (pipeline / "dvc.yaml").read_text()
    (pipeline / "dvc.yaml").write_text(text.replace("cat catalog.txt > folds.txt", "false"))
    with pytest.raises(dvc.StageError, match=r"folds(.|\n)*not started: .*report"):
        mirror.mirror(jobs=2, runner=runners.DASK)
    assert order(pipeline) == ["catalog", "folds"]


RECIPES = ("none", "mpr")


def results(project: Path) -> dict[str, str]:
    """SHA-256 of what the matrix stages made: weights, predictions' counts, scores."""
    found = {}
    for path in sorted((project / "artifacts").rglob("*")):
        if path.suffix in (".safetensors", ".parquet") and "catalog" not in path.parts:
            found[str(path.relative_to(project))] = sha256_file(path)
        elif path.name == "metrics.json":
            values = read_json(path)
            found[str(path.relative_to(project))] = str(
                {name: value for name, value in values.items() if not name.startswith("ms_")}
            )
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("server", "importable")
def test_a_cluster_of_two_processes_gives_the_results_of_a_serial_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve stages of the matrix: three pretrainings, three caches, six trainings; bit for bit."""
    model = {"name": "lerenet", "side": 8, "width": 8}
    changes: dict[str, Any] = {
        "grid": {"backbones": ["efficientnet_lite0"], "recipes": list(RECIPES), "splits": ["fold0", "fold1", "fold2"]},
        "recipes": {name: {"model": {**model, "mpr": "mpr" in name, "mpe": "mpe" in name}} for name in RECIPES}
        | {"lerenet": {"model": model}},
    }  # fmt: skip
    serial = make_dvc_project(tmp_path / "serial", **changes)
    run(serial, "dvc", "repro", "train")
    spread = make_dvc_project(tmp_path / "spread", **changes)
    monkeypatch.chdir(spread)
    for name in ("MLFLOW_TRACKING_URI", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    done = mirror.mirror(["training"], jobs=2, folds=["fold0", "fold1", "fold2"], runner=runners.DASK)
    trained = [stage for stage in done if stage.startswith("train@")]
    assert len(trained) == 6
    expected = results(serial)
    assert (
        sum(name.startswith("artifacts/train/") and name.endswith("weights.safetensors") for name in expected)
        == 6
    )
    found = results(spread)
    assert {name: found.get(name) for name in expected} == expected
