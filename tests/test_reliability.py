"""docs/reliability.md names tests that exist; and what no other file holds: the clock, files that change."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lerenet.cli import main as cli
from lerenet.data import cataloguing
from lerenet.data.augment import load_plain
from lerenet.errors import DataError
from lerenet.registry import ledger
from lerenet.training import checkpoint
from tests.helpers import PROJECT
from tests.helpers.factories import tiny_dataset

PAGE = (PROJECT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| failure")]


def named(row: str) -> list[tuple[str, str]]:
    return re.findall(r"`([\w/]+\.py)::(\w+)`", row)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_each_promise_names_tests_that_exist(row: str) -> None:
    assert named(row), "a promise without a test"
    for file, name in named(row):
        tree = ast.parse((PROJECT / "tests" / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, file


def test_the_page_has_its_rows() -> None:
    assert len(ROWS) >= 16


class Earlier(datetime):
    """A clock that went back for years."""

    @classmethod
    def now(cls, tz: Any = None) -> Earlier:
        return cls(2001, 1, 1, tzinfo=tz)


def test_a_clock_that_goes_back_changes_neither_ledger_nor_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = ledger.append({"id": "a", "event": "promote", "version": "1"})
    checkpoint.save(tmp_path, {"fingerprint": "f", "step": 1}, 1)
    monkeypatch.setattr(ledger, "datetime", Earlier)
    monkeypatch.setattr("time.time", lambda: 0.0)
    second = ledger.append({"id": "b", "event": "rollback", "version": "0"})
    path = checkpoint.save(tmp_path, {"fingerprint": "f", "step": 2}, 2)
    os.utime(path, (0, 0))
    assert second["time"] < first["time"] <= datetime.now(UTC).isoformat()
    assert [entry["id"] for entry in ledger.read()] == ["a", "b"]  # order of lines, not of times
    assert (checkpoint.load_latest(tmp_path, "f") or {})["step"] == 2


@pytest.mark.parametrize("kind", ["Images", "GT"])
def test_a_file_that_changes_while_it_is_read_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    data = tiny_dataset(tmp_path / "data", classes=3, defect=2, clean=0)
    victim = sorted((data / "C01" / kind).iterdir())[0]
    real = cataloguing.sha256_file

    def changed_first(path: Path) -> str:
        if path == victim:
            path.write_bytes(path.read_bytes() + b"more")
        return real(path)

    monkeypatch.setattr(cataloguing, "sha256_file", changed_first)
    with pytest.raises(DataError, match=rf"{victim.name}: changed while it was read"):
        cataloguing.build_catalog(data, tmp_path / "catalog.parquet")
    assert not (tmp_path / "catalog.parquet").exists()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which DVC runs a stage."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "catalog")
    (tmp_path / "data").mkdir()
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    return tmp_path


@pytest.mark.parametrize("changed", ["data/new.jpg", "params.yaml"])
def test_what_changes_while_a_stage_runs_ends_it_so_that_nothing_is_recorded(
    stage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changed: str
) -> None:
    def app() -> None:
        (stage / changed).write_text("seed: 1\n")
        sys.exit(0)

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 2
    assert f"{changed.split('new')[0]}: changed while stage catalog ran" in capsys.readouterr().err


def test_what_stands_still_ends_as_the_stage_did(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "app", lambda: sys.exit(0))
    cli.main()
    monkeypatch.setattr(cli, "app", lambda: sys.exit(3))
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 3


@pytest.mark.parametrize("kind", ["Images", "GT"])
def test_pixels_that_are_not_the_catalogued_ones_are_refused(tmp_path: Path, kind: str) -> None:
    data = tiny_dataset(tmp_path / "data", classes=3, defect=2, clean=1)
    rows = cataloguing.build_catalog(data, tmp_path / "catalog.parquet")
    row = rows[rows["cls"] == "C01"].iloc[0]
    assert load_plain(data, row, 64)[1].any()
    victim = data / row["image" if kind == "Images" else "mask"]
    victim.write_bytes(victim.read_bytes() + b"more")
    with pytest.raises(DataError, match=rf"{victim.name}: changed since it was catalogued"):
        load_plain(data, row, 64)


@pytest.mark.parametrize(
    ("name", "default"), [("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16"), ("GOMP_SPINCOUNT", "8000")]
)
def test_what_torch_reads_is_set_before_it_is_imported_and_a_choice_stays(name: str, default: str) -> None:
    """No kernels that corrupt memory, no endless spinning beside another process."""
    code = f"import sys, os, lerenet; assert 'torch' not in sys.modules; print(os.environ[{name!r}])"
    kept = {key: value for key, value in os.environ.items() if key != name}
    for env, expected in ((kept, default), ({**kept, name: "own"}, "own")):
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected
