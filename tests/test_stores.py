"""Slow: a retraining with its runs in PostgreSQL and its artifacts and data in S3, by configuration alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from flows.services.processes import FOLDER, MARK
from tests.faults.stack import free_ports
from tests.pipeline import SOURCE, environment, make_dvc_project, run
from tests.stores import PASSWORD, SECRET, Stores, initdb, stores

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(initdb() is None, reason="needs PostgreSQL's server (Debian: postgresql)"),
]
RETRAIN = "from flows.retrain import retrain; print(retrain(wait=True, return_state=True).message)"


@pytest.fixture
def plant() -> Iterator[Stores]:
    """The servers; their folder is open to the database's user, as pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="lerenet-stores-") as folder:
        Path(folder).chmod(0o755)
        with stores(Path(folder)) as made:
            yield made


def left(project: Path) -> list[psutil.Process]:
    """Living processes of the project's services."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if one.environ().get(MARK, "").startswith(str((project / FOLDER).resolve())):
                found.append(one)
    return [one for one in found if one.status() != psutil.STATUS_ZOMBIE]


def test_a_retraining_on_postgresql_and_s3(plant: Stores, tmp_path: Path) -> None:
    project = make_dvc_project(tmp_path / "project")
    shutil.copytree(SOURCE / "flows", project / "flows")
    shutil.copyfile(SOURCE / "prefect.yaml", project / "prefect.yaml")
    run(project, "dvc", "remote", "add", "-d", "store", "s3://data/dvc")
    run(project, "dvc", "remote", "modify", "store", "endpointurl", plant.s3)
    prefect, mlflow = free_ports(2)
    ports = {"LERENET_PREFECT_PORT": str(prefect), "LERENET_MLFLOW_PORT": str(mlflow)}
    here = "http://127.0.0.1"
    served = {"PREFECT_API_URL": f"{here}:{prefect}/api", "MLFLOW_TRACKING_URI": f"{here}:{mlflow}"}
    said = []

    def call(*words: str) -> str:
        env = environment() | plant.environment | ports | served
        done = subprocess.run(
            [sys.executable, *words], cwd=project, env=env, capture_output=True, text=True, check=False
        )
        said.append(done.stdout + done.stderr)
        assert done.returncode == 0, said[-1]
        return done.stdout

    try:
        call("-m", "flows.services", "up")
        assert "Version 1: bootstrap" in call("-c", RETRAIN)
        assert "Nothing changed" in call("-c", RETRAIN)
        assert "champion" in call("-m", "lerenet", "models")
        chain = call("-m", "lerenet", "lineage")
        assert "differs" not in chain
        assert "not here" not in chain
    finally:
        call("-m", "flows.services", "down")

    assert any(key.endswith("package/weights.safetensors") for key in plant.objects("models"))
    pushed = [path for path in (project / ".dvc/cache/files/md5").rglob("*") if path.is_file()]
    assert len(plant.objects("data")) >= len(pushed) > 0
    assert plant.rows("mlflow", "runs") > 10
    assert plant.rows("mlflow", "model_versions") == 1
    assert plant.rows("prefect", "flow_run") > 1
    for name in ("mlflow.db", "mlartifacts", ".services/prefect.db"):
        assert not (project / name).exists(), name
    logs = [path.read_text(errors="replace") for path in (project / FOLDER).glob("*.log")]
    assert logs
    assert not [text for text in said + logs if PASSWORD in text or SECRET in text]
    assert left(project) == []
