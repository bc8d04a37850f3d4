"""A backup restored into an empty folder: the champion answers, lineage verifies; a changed one is refused."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lerenet import layout
from lerenet.cli.champion import examined
from lerenet.errors import TrackingError
from lerenet.registry import copies, ledger, registering
from lerenet.registry import versions as registry
from lerenet.registry.backup import backup, count, restore
from lerenet.registry.candidate import collect
from lerenet.registry.lineage import trace
from lerenet.registry.promote import promote
from tests.helpers.registry import answer, make_project

pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
    pytest.mark.usefixtures("little_code"),
]


@pytest.fixture
def saved(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The backup of a project with a champion and a version that was rejected; the project is still there."""
    old = project / "old"
    old.mkdir()
    for file in ("mlflow.db", "params.yaml"):
        shutil.copyfile(project / file, old / file)
    monkeypatch.chdir(old)
    for quality in (0.6, 0.3):
        params = make_project(old, quality=quality)
        promote(registering.register(collect(params), params), params)
    done: list[int] = []
    expected = count()
    assert backup(project / "saved.tar", done.append) == expected == len(done)
    monkeypatch.chdir(project)
    return project / "saved.tar"


@pytest.fixture
def empty(saved: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = saved.parent / "new"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


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
        archive.extractall(folder, filter="data")
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


def test_a_server_has_its_own_backup(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    with pytest.raises(TrackingError, match="a server's store"):
        backup(project / "saved.tar")
