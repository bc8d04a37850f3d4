"""Slow: a retraining with its runs in PostgreSQL and its artifacts and data in S3, by configuration alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.services.processes import FOLDER
from tests.faults.stack import free_ports, living
from tests.helpers.pipeline import add_flows, environment, make_dvc_project, run
from tests.helpers.stores import SECRETS, Stores, initdb, stores

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(initdb() is None, reason="needs PostgreSQL's server (Debian: postgresql)"),
]
OURS = ("AWS_", "LERENET_", "PREFECT_API", "PREFECT_SERVER_DATABASE")  # nobody else's settings
PATIENCE = 900  # seconds for one command
RETRAIN = "from flows.retrain import retrain; print(retrain(jobs=2, wait=True, return_state=True).message)"


@pytest.fixture
def plant() -> Iterator[Stores]:
    """The servers; their folder is open to the database's user, as pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="lerenet-stores-") as folder:
        Path(folder).chmod(0o755)
        with stores(Path(folder)) as made:
            yield made


def test_a_retraining_on_postgresql_and_s3(plant: Stores, tmp_path: Path) -> None:
    project = make_dvc_project(tmp_path / "project")
    add_flows(project)
    run(project, "dvc", "remote", "add", "-d", "store", "s3://data/dvc")
    run(project, "dvc", "remote", "modify", "store", "endpointurl", plant.s3)
    prefect, mlflow = free_ports(2)
    here = "http://127.0.0.1"
    kept = {name: value for name, value in environment().items() if not name.startswith(OURS)}
    env = kept | plant.environment
    env |= {"LERENET_PREFECT_PORT": str(prefect), "LERENET_MLFLOW_PORT": str(mlflow)}
    env |= {"PREFECT_API_URL": f"{here}:{prefect}/api", "MLFLOW_TRACKING_URI": f"{here}:{mlflow}"}
    said = []

    def call(*words: str) -> str:
        command = [sys.executable, *words]
        done = subprocess.run(
            command, cwd=project, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        said.append(done.stdout + done.stderr)
        assert done.returncode == 0, said[-1]
        return done.stdout

    try:
        call("-m", "flows.services", "up")
        first = call("-c", RETRAIN)  # the watcher announces the data, so the worker may have been before us
        assert "Version 1: first" in first or "Nothing changed" in first
        assert "Nothing changed" in call("-c", RETRAIN)
        shutil.rmtree(project / ".cache/registry")  # the files come from the bucket again
        chain = call("-m", "lerenet", "lineage")
        assert "differs" not in chain
        assert "not here" not in chain
    finally:
        call("-m", "flows.services", "down")

    assert living(project) == []
    aliases = "SELECT version, alias FROM registered_model_aliases"
    assert [(int(version), alias) for version, alias in plant.ask("mlflow", aliases)] == [(1, "champion")]
    assert plant.ask("mlflow", "SELECT count(*) FROM model_versions") == [(1,)]
    places = [place for (place,) in plant.ask("mlflow", "SELECT artifact_uri FROM runs")]
    assert len(places) > 10
    assert all(place.startswith("s3://models/mlflow/") for place in places)
    ended = "FROM flow_run JOIN flow ON flow.id = flow_id WHERE flow.name = 'retrain' AND state_type = 'COMPLETED'"
    assert plant.ask("prefect", f"SELECT count(*) {ended}")[0][0] >= 2
    assert any(key.endswith("package/weights.safetensors") for key in plant.objects("models"))
    cache = project / ".dvc/cache/files/md5"
    cached = {f"dvc/files/md5/{path.relative_to(cache)}" for path in cache.rglob("*") if path.is_file()}
    assert cached
    assert cached <= plant.objects("data")
    for name in ("mlflow.db", "mlartifacts", ".services/prefect.db"):
        assert not (project / name).exists(), name
    kept_files = [path for path in (project / FOLDER).rglob("*") if path.is_file()]
    assert {"prefect.log", "mlflow.log", "worker.log", "watch.log"} <= {path.name for path in kept_files}
    said += [path.read_text(errors="replace") for path in kept_files]
    said += [message for (message,) in plant.ask("prefect", "SELECT message FROM log")]
    assert not [text for text in said if any(secret in text for secret in SECRETS)]
