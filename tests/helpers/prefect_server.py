"""A Prefect server for tests, and a small pipeline for its flows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.dvc import CHILDREN

PIPELINE = """
stages:
  catalog:
    cmd: echo catalog >> order.txt && echo 1 > catalog.txt
    outs: [catalog.txt]
  folds:
    cmd: echo folds >> order.txt && cat catalog.txt > folds.txt
    deps: [catalog.txt]
    outs: [folds.txt]
  train:
    matrix: {split: [fold0, fold1], backbone: [lite_0]}
    cmd: echo train-${key} >> order.txt && cat folds.txt > train-${key}.txt
    deps: [folds.txt]
    outs: ["train-${key}.txt"]
  report:
    cmd: echo report >> order.txt && cat train-*.txt > report.txt
    deps: [train-fold0-lite_0.txt, train-fold1-lite_0.txt]
    outs: [report.txt]
"""


@contextmanager
def prefect_server(*without: str) -> Iterator[str]:
    """A Prefect server without some of its services, and its address. No flow has heartbeats: it would end later."""
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with pytest.MonkeyPatch.context() as patch:
        for service in without:
            patch.setenv(f"PREFECT_SERVER_SERVICES_{service}_ENABLED", "false")
        silent = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
        with silent, prefect_test_harness(server_startup_timeout=120):
            yield str(PREFECT_API_URL.value())


def call_dvc(*words: str, folder: Path | None = None) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *words, "-q"], cwd=folder, check=True)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git and DVC project of trivial stages."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    call_dvc("init", folder=folder)
    (folder / "dvc.yaml").write_text(PIPELINE)
    return folder


@pytest.fixture
def pipeline(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git and DVC project of trivial stages as the current folder."""
    return moved_into(fresh, tmp_path, monkeypatch)


def moved_into(template: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``folder``, a copy of ``template``, as the current one."""
    shutil.copytree(template, folder, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    CHILDREN.reset()
    return folder


def order(folder: Path) -> list[str]:
    return (folder / "order.txt").read_text().split()
