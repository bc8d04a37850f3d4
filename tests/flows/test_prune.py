"""Housekeeping: what DVC's cache keeps and loses, what lay unused, and that nothing goes unasked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from flows.data import collect_garbage, garbage
from flows.dvc import StageError
from flows.turns import one_at_a_time
from lerenet import layout
from lerenet.registry import caches
from tests.helpers.pipeline import run

pytestmark = pytest.mark.whole


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A project whose data were recorded three times, and their hashes; the first two are not in git."""
    monkeypatch.chdir(tmp_path)
    for words in (("git", "init", "-q"), ("dvc", "init", "-q")):
        run(tmp_path, *words)
    (tmp_path / "data").mkdir()
    hashes = []
    for place in range(3):
        (tmp_path / "data" / f"{place}.txt").write_text(f"image {place}")
        run(tmp_path, "dvc", "add", "-q", "data")
        hashes.append(yaml.safe_load((tmp_path / "data.dvc").read_text())["outs"][0]["md5"])
        (tmp_path / "data" / f"{place}.txt").unlink()
    (tmp_path / "data" / "2.txt").write_text("image 2")
    run(tmp_path, "git", "add", "-A")
    run(tmp_path, "git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "-qm", "now")
    return hashes


def objects() -> set[str]:
    files = Path(".dvc/cache/files/md5").rglob("*")
    return {path.parent.name + path.name for path in files if path.is_file()}


def test_data_of_the_project_and_of_kept_versions_stay_in_the_cache(recorded: list[str]) -> None:
    first, second, now = recorded
    before = objects()
    assert len(before) == 6  # three lists of files, three files
    found = garbage([first, "0" * 32 + ".dir"])  # data that are not here hold nothing up
    assert {path.parent.name + path.name for path in found} < before
    assert objects() == before
    collect_garbage([first, "0" * 32 + ".dir"])
    assert {first, now} <= objects()
    assert second not in objects()
    assert before - objects() == {path.parent.name + path.name for path in found}
    assert len(objects()) == 4


def test_what_was_used_lately_stays_in_the_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    old = time.time() - 40 * caches.DAY
    entries = {
        name: Path(name)
        for name in (".cache/features/old", ".cache/features/used", ".cache/enrol/shared-1.safetensors",
                     ".checkpoints/train/old", ".checkpoints/train/young")
    }  # fmt: skip
    for path in entries.values():
        folder = path if not path.suffix else path.parent
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "level1.npy" if not path.suffix else path).write_text("x")
    for path in [*layout.CACHE.rglob("*"), *layout.CHECKPOINTS.rglob("*")]:
        os.utime(path, (old, old))
    os.utime(entries[".cache/features/used"])
    os.utime(entries[".checkpoints/train/young"] / "level1.npy")
    gone = caches.unused(30)
    assert {path.as_posix() for path in gone} == {
        ".cache/features/old", ".cache/enrol/shared-1.safetensors", ".checkpoints/train/old"
    }  # fmt: skip
    caches.drop(gone)
    assert {name for name, path in entries.items() if path.exists()} == {
        ".cache/features/used", ".checkpoints/train/young"
    }  # fmt: skip
    assert caches.unused(30) == []


def test_nothing_goes_while_a_retraining_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with one_at_a_time(wait=False) as free:
        assert free
        words = [sys.executable, "-m", "flows.prune", "--yes"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "a retraining runs" in done.stderr


def test_a_cache_that_others_may_share_is_left_alone(recorded: list[str], tmp_path: Path) -> None:
    run(tmp_path, "dvc", "cache", "dir", "--local", str(tmp_path / "shared"))
    with pytest.raises(StageError, match="may serve other projects"):
        collect_garbage([])


@pytest.mark.parametrize(
    "lock", ["", "schema: '2.0'\nstages:\n  first:\n    cmd: 'tr", "schema: '2.0'\nstages: {}\n"]
)
def test_outputs_that_a_torn_lock_does_not_name_are_no_garbage(recorded: list[str], lock: str) -> None:
    Path("dvc.yaml").write_text("stages:\n  first:\n    cmd: 'true'\n    deps: [data]\n")
    Path("dvc.lock").write_text(lock)
    before = objects()
    with pytest.raises(StageError, match="torn"):
        garbage([])
    assert objects() == before
    assert Path("dvc.lock").read_text() == lock
