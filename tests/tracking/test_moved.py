"""Addresses of artifacts follow a project that was moved: those whose files came along, and no others."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lerenet.tracking.moved import follow


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """The project's folder now; it was ``tmp_path / "old"``."""
    folder = tmp_path / "new"
    (folder / "mlartifacts/1/a/artifacts").mkdir(parents=True)
    return folder


def written(folder: Path, *addresses: str) -> Path:
    store = folder / "mlflow.db"
    with closing(sqlite3.connect(store)) as base, base:
        base.execute("CREATE TABLE runs (artifact_uri TEXT)")
        base.executemany("INSERT INTO runs VALUES (?)", [(address,) for address in addresses])
    return store


def read(store: Path) -> list[str]:
    with closing(sqlite3.connect(store)) as base:
        return [str(row[0]) for row in base.execute("SELECT artifact_uri FROM runs ORDER BY rowid")]


def test_an_address_is_written_anew_only_where_its_files_came_along(new: Path) -> None:
    old = (new.parent / "old").as_uri()
    lost, root = f"{old}/mlartifacts/1/b/artifacts", f"{old}/mlartifacts"
    store = written(new, f"{root}/1/a/artifacts", lost, root)
    assert follow(store) == 2
    here = (new / "mlartifacts").as_uri()
    assert read(store) == [f"{here}/1/a/artifacts", lost, here]
    assert follow(store) == 0


def test_a_folder_of_artifacts_is_known_by_its_whole_name(new: Path) -> None:
    (new / "mlartifacts-old/1").mkdir(parents=True)
    old = (new.parent / "old").as_uri()
    others = [f"{old}/mlartifacts-old/1", f"{old}/mlartifacts2/1/a/artifacts", f"{old}/my-mlartifacts"]
    inside = f"{new.parent.as_uri()}/mlartifacts2/mlartifacts/mlartifacts/1/a/artifacts"
    store = written(new, *others, inside)
    assert follow(store) == 1
    assert read(store) == [*others, f"{(new / 'mlartifacts').as_uri()}/1/a/artifacts"]


def test_what_lies_where_the_store_says_stays(new: Path) -> None:
    there = new.parent / "old/mlartifacts/1/a/artifacts"
    there.mkdir(parents=True)
    store = written(new, there.as_uri())
    assert follow(store) == 0
    assert follow(store, home=new.parent / "home") == 1  # restored: the other is what was backed up
    assert read(store) == [(new.parent / "home/mlartifacts/1/a/artifacts").as_uri()]
