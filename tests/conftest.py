"""What several test files share: an MLflow store made once, and a project to register from."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lerenet.models.serialization import LoadedNetwork

# Before torch is loaded, and for every child: test processes run side by side, one thread each. With a pool of
# threads in each they wait for one another, and the suite takes four times as long on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Tests kill processes, they do not cut the power: whether the disk has a commit yet is the system's affair."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def opened(connection: Any, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", opened)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _number: None)
        yield
    event.remove(Engine, "connect", opened)


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; making its tables takes seconds, copying it none."""
    from lerenet.tracking import store

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    store.client_of(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def project(tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder is an empty project with its own MLflow store; networks load from a stand-in."""
    import lerenet.predict
    import lerenet.stages.evaluate  # noqa: F401  (both keep the loader that they were imported with)
    from tests.helpers import registry as registry_fixture

    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DVC_STAGE", "LERENET_NOTIFY"):
        monkeypatch.delenv(name, raising=False)
    shutil.copyfile(mlflow_template, tmp_path / "mlflow.db")
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lerenet.models.serialization.load_network", registry_fixture.load_network)
    monkeypatch.setattr("lerenet.registry.served.answer", registry_fixture.answer)
    return tmp_path


@pytest.fixture
def little_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions carry one file of code and name one package, for this process answers for them: it is quicker."""
    from lerenet.registry import served

    package = tmp_path / "code" / "lerenet"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(served, "PACKAGE", package)
    monkeypatch.setattr(served, "REQUIREMENTS", ("mlflow",))


@pytest.fixture(scope="session")
def loaded() -> LoadedNetwork:
    """The training-free matcher on a random backbone."""
    from tests.helpers.prediction import network

    return network()


@pytest.fixture
def prepared_for_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that classes are enrolled and inspected with is prepared once, not at each call."""
    from tests.helpers.prediction import prepared

    for module in ("enrol", "inspect"):
        monkeypatch.setattr(f"lerenet.enrolment.{module}.prepare", prepared)


@pytest.fixture
def support(tmp_path: Path) -> tuple[Path, Path]:
    """A picture with a bright blob, and its mask."""
    from tests.helpers.prediction import picture, truth

    path = picture(tmp_path / "in" / "support.png", seed=1)
    return path, truth(path)


@pytest.fixture
def query(tmp_path: Path) -> Path:
    """Another picture with a bright blob."""
    from tests.helpers.prediction import picture

    return picture(tmp_path / "in" / "query.jpg", seed=2)


@pytest.fixture
def prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`predict` prepares a network once and not in each call, which is most of a small call's time."""
    from lerenet.predict import work
    from tests.helpers.prediction import prepared

    monkeypatch.setattr(work, "prepare", prepared)
