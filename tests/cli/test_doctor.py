"""The doctor finds what is wrong, says what to do, never prints a password, and is quick."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from lerenet.cli import doctor
from lerenet.errors import ModelError
from tests.helpers import PROJECT
from tests.helpers.factories import tiny_dataset

SECRET = "hunter2secret"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound project folder, with the environment's servers unset."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, tmp_path)
    tiny_dataset(tmp_path / "data", classes=3, defect=1, clean=0, size=16)
    (tmp_path / ".git").mkdir()
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", *doctor.CREDENTIALS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_sound_project_has_no_problem(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doctor.doctor_command()
    assert "0 problems" in capsys.readouterr().out


@pytest.mark.whole
def test_mlflow_and_prefect_are_not_imported(project: Path) -> None:
    code = "import sys; from lerenet.cli.doctor import diagnose; diagnose(); print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project
    )
    loaded = done.stdout
    assert "'torch'" in loaded
    for heavy in ("mlflow", "prefect", "great_expectations"):
        assert f"'{heavy}'" not in loaded


def test_every_state_has_a_remedy_or_is_ok(project: Path) -> None:
    shutil.rmtree(project / "data")
    for item in doctor.diagnose():
        assert item.state == "ok" or item.remedy, item


def test_outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        doctor.doctor_command()
    assert stopped.value.code == 1
    assert doctor.check_project().state == "problem"


@pytest.mark.parametrize(
    ("package", "version"), [("fastapi", "0.151.0"), ("sqlalchemy", "2.1.0"), ("prefect", "4.0.0")]
)
def test_a_package_over_its_cap_is_named(monkeypatch: pytest.MonkeyPatch, package: str, version: str) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: version if name == package else real(name))
    found = doctor.check_packages()
    assert found.state == "problem"
    assert f"{package} {version}" in found.found


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "timm":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    real = metadata.version
    monkeypatch.setattr(metadata, "version", version)
    assert "timm is missing" in doctor.check_packages().found


def test_bad_params_are_a_problem(project: Path) -> None:
    (project / "params.yaml").write_text("image_sise: 3\n")
    found = next(item for item in doctor.diagnose() if item.what == "params.yaml")
    assert found.state == "problem"
    assert "image_sise" in found.found


def test_no_data_and_empty_data(project: Path) -> None:
    for picture in project.glob("data/*/Images/*"):
        picture.unlink()
    assert doctor.check_data().state == "problem"
    (project / "data/sources.csv").unlink()
    assert "sources.csv" in doctor.check_data().found


@pytest.mark.parametrize(("free", "state"), [(0.5e9, "problem"), (5e9, "warning"), (50e9, "ok")])
def test_disk(monkeypatch: pytest.MonkeyPatch, free: float, state: str) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert doctor.check_disk().state == state


@pytest.mark.parametrize(
    ("uri", "state"),
    [
        ("", "ok"),
        ("http://127.0.0.1:5000", "ok"),
        ("https://tracking.example:5000", "warning"),
        (f"http://me:{SECRET}@tracking.example", "warning"),
        (f"https://me:{SECRET}@tracking.example", "ok"),
        (f"https://me:{SECRET}@tracking.example?token={SECRET}", "ok"),
        (f"ftp://me:{SECRET}@tracking.example", "problem"),
        (f"http://me:{SECRET}/{SECRET}@tracking.example", "problem"),
        ("./mlruns", "problem"),
    ],
)
def test_tracking_uri(project: Path, monkeypatch: pytest.MonkeyPatch, uri: str, state: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    found = doctor.check_mlflow()
    assert found.state == state
    assert SECRET not in f"{found}"


def test_a_token_counts_as_credentials(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking.example")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    found = doctor.check_mlflow()
    assert found.state == "ok"
    assert SECRET not in f"{found}"


@pytest.mark.parametrize(
    ("uri", "state"),
    [
        ("", "ok"),
        ("http://127.0.0.1:4200/api", "ok"),
        ("http://127.0.0.1:4200", "warning"),
        (f"http://me:{SECRET}@flows.example/api", "warning"),
        ("127.0.0.1:4200", "problem"),
    ],
)
def test_prefect_url(monkeypatch: pytest.MonkeyPatch, uri: str, state: str) -> None:
    monkeypatch.setenv("PREFECT_API_URL", uri)
    found = doctor.check_prefect()
    assert found.state == state
    assert SECRET not in f"{found}"


def test_there_is_no_champion_yet(project: Path) -> None:
    assert doctor.check_champion().state == "warning"
    (project / "mlflow.db").touch()
    assert doctor.check_champion().state == "warning"


def test_one_broken_check_does_not_hide_the_others(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise ModelError("weights.pth: cut short", "install again")

    monkeypatch.setattr(doctor, "CHECKS", {**doctor.CHECKS, "weights": broken})
    findings = {item.what: item for item in doctor.diagnose()}
    assert (findings["weights"].state, findings["weights"].remedy) == ("problem", "install again")
    assert findings["prefect"].state == "ok"


def test_git_and_dvc(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_tools().state == "ok"
    monkeypatch.setattr(shutil, "which", lambda tool, path=None: None)
    assert "git, dvc" in doctor.check_tools().found
