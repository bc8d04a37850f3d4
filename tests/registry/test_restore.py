"""A backup restored into an empty folder: the champion answers, lineage verifies; a changed one is refused."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lerenet import layout
from lerenet.cli.backup import restore_command
from lerenet.cli.champion import examined
from lerenet.errors import TrackingError
from lerenet.registry import copies, ledger, registering
from lerenet.registry import versions as registry
from lerenet.registry.backup import backup
from lerenet.registry.candidate import collect
from lerenet.registry.lineage import trace
from lerenet.registry.promote import promote
from lerenet.registry.restore import restore
from lerenet.tracking.store import require_project
from tests.helpers.registry import answer, make_project

pytestmark = [
    pytest.mark.whole,
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
    pytest.mark.usefixtures("little_code"),
]


def test_the_champion_answers_and_verifies_in_an_empty_folder(saved: Path, empty: Path) -> None:
    restore(saved)
    champion = registry.find("champion")
    assert champion.number == "1"
    assert copies.verified(champion).is_relative_to(empty)
    assert answer(copies.local(champion)) is not None
    assert [entry["outcome"] for entry in ledger.read()] == ["first", "rejected"]
    assert examined()[0] == "ok"
    assert not [link for link in trace(champion) if link.state == "differs"]
    assert not (empty / ".restored").exists()
    better = make_project(empty, quality=0.9)
    assert promote(registering.register(collect(better), better), better).outcome == "promoted"


def changed(saved: Path, change: Any) -> Path:
    folder = saved.parent / "unpacked"
    with tarfile.open(saved) as archive:
        archive.extractall(folder)  # a backup of ours
    change(folder)
    with tarfile.open(saved, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.add(file, file.relative_to(folder).as_posix(), recursive=False)
    return saved


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "ledger.jsonl").write_text("{}\n"),
        lambda folder: (folder / "ledger.jsonl").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "more.txt").touch(),
    ],
    ids=["changed", "lost", "no list", "added"],
)
def test_what_is_no_whole_backup_is_refused_and_nothing_is_written(
    saved: Path, empty: Path, change: Any
) -> None:
    with pytest.raises(TrackingError, match="no whole backup"):
        restore(changed(saved, change))
    assert not list(empty.iterdir())


def test_a_file_that_is_none_is_refused(empty: Path) -> None:
    (empty.parent / "other.tar").write_bytes(b"no tar")
    with pytest.raises(TrackingError, match="lerenet backup"):
        restore(empty.parent / "other.tar")
    assert not list(empty.iterdir())


def test_a_registry_that_is_there_is_not_written_over(saved: Path, empty: Path) -> None:
    layout.LEDGER.write_text("")
    with pytest.raises(TrackingError, match=r"ledger\.jsonl is here already"):
        restore(saved)


class Killed(BaseException):
    """Nothing of ours catches it."""


STEPS = (
    (shutil, "rmtree"),
    (os, "replace"),
    (tarfile.TarFile, "extractfile"),
    (Path, "rename"),
    (Path, "unlink"),
)


def killed(saved: Path, owner: Any, name: str, nth: int, before: bool) -> bool:
    """Restore, and die before or after the nth call of a function; whether it came to that."""
    real, calls = getattr(owner, name), []

    def step(*words: Any, **named: Any) -> Any:
        calls.append(words)
        if before and len(calls) == nth:
            raise Killed
        done = real(*words, **named)
        if len(calls) == nth:
            raise Killed
        return done

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, step)
        try:
            restore(saved)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_restore_that_is_killed_is_no_project_until_it_is_repeated(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    seen = []
    for owner, name in STEPS:
        for nth in itertools.count(1):
            folder = tmp_path / f"{name}-{nth}"
            folder.mkdir()
            monkeypatch.chdir(folder)
            if not killed(saved, owner, name, nth, before):
                break
            if not Path("mlflow.db").exists() or layout.RESTORING.exists():
                with pytest.raises(TrackingError, match=r"cut short|not a project"):
                    require_project()
                restore(saved)
            seen.append(folder.name)
            assert examined()[0] == "ok", folder
            assert copies.verified(registry.find("champion")).is_relative_to(folder)
            assert not list(folder.glob(".lerenet-tmp*"))
    assert {"rename-1", "rename-4", "unlink-1", "replace-1", "extractfile-2", "rmtree-1"} <= set(seen)


def test_a_restore_goes_on_with_its_own_backup_only(
    saved: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(Path, "rename", lambda *_: 1 / 0)
        restore(saved)
    here = sorted(empty.rglob("*"))
    other = saved.with_name("other.tar")
    with tarfile.open(saved) as archive, tarfile.open(other, "w") as changed:
        manifest = b'{"mlflow.db": ""}'
        entry = archive.getmember("manifest.json")
        entry.size = len(manifest)
        changed.addfile(entry, io.BytesIO(manifest))
    with pytest.raises(TrackingError, match="another backup"):
        restore(other)
    assert sorted(empty.rglob("*")) == here


def test_a_champion_that_was_broken_when_it_was_backed_up_is_said(
    saved: Path, empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved.parent / "old")
    weights = copies.verified(registry.find("champion")) / "weights.safetensors"
    weights.write_bytes(b"rotten")
    backup(saved)
    monkeypatch.chdir(empty)
    with pytest.raises(TrackingError, match=r"files restored.*weights\.safetensors is not the file"):
        restore_command(saved)
    assert not capsys.readouterr().out
