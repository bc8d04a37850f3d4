"""What the tests of backup and restore share."""

from __future__ import annotations

from pathlib import Path

import pytest

from lerenet.registry import registering
from lerenet.registry.backup import backup, count
from lerenet.registry.candidate import collect
from lerenet.registry.promote import promote
from tests.helpers.registry import begin, make_project


@pytest.fixture
def saved(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The backup of a project with a champion and a version that was rejected; the project is still there."""
    old = begin(project / "old", project)
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
