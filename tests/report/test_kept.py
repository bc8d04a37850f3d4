"""Cells in a file that travels: nothing of the page is lost, what is done is not run again, a bad file is refused."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from flows import tables
from lerenet.cells import Cell
from lerenet.errors import DataError
from lerenet.params import Params, TableSettings
from lerenet.report import kept
from lerenet.report.build import collect
from lerenet.report.markdown import results
from lerenet.stages.recipes import settings_digest
from tests.helpers.report import DIGEST, make_artifacts

PARAMS = Params.model_validate({"evaluation": {"draws": 50}})
TABLE = TableSettings(recipes=("lerenet",), folds=("fold0", "fold1", "fold2"), seeds=(0, 1))


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return make_artifacts(tmp_path / "whole" / "artifacts", seeds=(0, 1))


def without(whole: Path, to: Path, text: str) -> Path:
    """A copy of the artifacts that lacks every evaluated cell whose key holds ``text``."""
    shutil.copytree(whole, to)
    for stage in kept.STAGES:
        for folder in to.glob(f"{stage}/*{text}*"):
            shutil.rmtree(folder)
    return to


def scores(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ") and "summed" not in line]


def test_two_halves_make_the_page_of_the_whole(whole: Path, tmp_path: Path) -> None:
    expected = results(collect(whole, PARAMS))
    first, second = without(whole, tmp_path / "a", "fold0"), without(whole, tmp_path / "b", "fold1")
    assert len(kept.keep(second, tmp_path / "cells.tar.xz")) == 2 * (1 + 2)
    assert results(collect(first, PARAMS)) != expected
    with kept.beside(first, [tmp_path / "cells.tar.xz"]) as root:
        found = results(collect(root, PARAMS))
    assert [line for line in scores(found) if "s |" not in line] == [
        line for line in scores(expected) if "s |" not in line
    ]


def test_cells_are_added_and_replaced_and_the_same_cells_are_the_same_bytes(
    whole: Path, tmp_path: Path
) -> None:
    file = tmp_path / "cells.tar.xz"
    kept.keep(without(whole, tmp_path / "a", "fold0"), file)
    kept.keep(without(whole, tmp_path / "b", "fold1"), file)
    kept.keep(whole, tmp_path / "once.tar.xz")
    assert file.read_bytes() == (tmp_path / "once.tar.xz").read_bytes()
    assert len(kept.cells(kept.read(file))) == 6
    assert {about["episodes"] for about in kept.cells(kept.read(file)).values()} == {DIGEST}
    assert not [name for name in kept.read(file) if name.endswith((".safetensors", ".npz"))]


def test_a_table_runs_only_what_is_missing(whole: Path, tmp_path: Path) -> None:
    kept.keep(without(whole, tmp_path / "a", "fold1-*-1-1"), tmp_path / "cells.tar.xz")
    done = kept.cells(kept.read(tmp_path / "cells.tar.xz"))
    left = tables.parts(TABLE, done)
    assert [cell.key for part in left for cell in tables.cells(part)] == [
        "fold1-efficientnet_lite0-lerenet-1-1"
    ]
    said = tables.status("table2", TABLE, done)
    assert "seed 0: done" in said
    assert "seed 1: missing fold1" in said
    assert said.endswith("table2: 5 of 6 cells done")
    every = [cell.key for part in tables.parts(TABLE, ()) for cell in tables.cells(part)]
    assert sorted(every) == sorted(cell.key for cell in tables.cells(TABLE))


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/etc/evil.json",
        "evaluate/x/../../evil.json",
        "other/x/summary.json",
        "evaluate/../summary.json",
    ],
)
def test_a_file_with_anything_else_in_it_is_refused(name: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cells.tar.xz", "w:xz") as file:
        info = tarfile.TarInfo(name)
        info.size = 2
        file.addfile(info, io.BytesIO(b"{}"))
    with pytest.raises(DataError, match=r"cells\.tar\.xz"):
        kept.read(tmp_path / "cells.tar.xz")


def test_a_torn_file_is_refused_and_stays(whole: Path, tmp_path: Path) -> None:
    file = tmp_path / "cells.tar.xz"
    kept.keep(whole, file)
    torn = file.read_bytes()[:-200]
    file.write_bytes(torn)
    with pytest.raises(DataError, match="not a readable"):
        kept.keep(whole, file)
    assert file.read_bytes() == torn
    assert kept.read(tmp_path / "none.tar.xz") == {}


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_file_with_a_wrong_byte_is_refused(whole: Path, tmp_path: Path, share: float) -> None:
    file = tmp_path / "cells.tar.xz"
    kept.keep(whole, file)
    wrong = bytearray(file.read_bytes())
    wrong[int(len(wrong) * share)] ^= 0xFF
    file.write_bytes(wrong)
    with pytest.raises(DataError, match="not a readable"):
        kept.read(file)


def test_the_page_names_data_commits_and_machines_of_kept_cells(whole: Path, tmp_path: Path) -> None:
    first, second = (
        without(whole, tmp_path / "p" / "artifacts", "fold0"),
        without(whole, tmp_path / "b", "fold[12]"),
    )
    (tmp_path / "p" / "data.dvc").write_text("outs: [{md5: 0123.dir, path: data}]")
    for path in second.glob("evaluate/*/run.json"):
        path.write_text(
            json.dumps({**json.loads(path.read_text()), "commit": "c0ffee", "machine": "an old one"})
        )
    kept.keep(second, tmp_path / "cells.tar.xz")
    with kept.beside(first, [tmp_path / "cells.tar.xz"]) as root:
        found = collect(root, PARAMS).facts
    assert found["Data hash (DVC)"] == "0123.dir"
    assert "c0ffee" in found["Git commit"]
    assert "an old one" in found["Machine"]


def test_a_stale_or_unfinished_cell_does_not_hide_a_kept_one(whole: Path, tmp_path: Path) -> None:
    kept.keep(whole, tmp_path / "cells.tar.xz")
    own = without(whole, tmp_path / "a", "nothing")
    stale, unfinished = sorted(own.glob("evaluate/*"))[:2]
    (stale / "about.json").write_text(json.dumps({"episodes": "of other data", "init": "imagenet"}))
    (unfinished / "summary.json").unlink()
    with kept.beside(own, [tmp_path / "cells.tar.xz"]) as root:
        assert not collect(root, PARAMS).loaded.skipped
        assert results(collect(root, PARAMS)).count("fold0") == results(collect(whole, PARAMS)).count("fold0")


def test_what_is_done_is_of_todays_episodes_and_settings(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whole.parent)
    for path in whole.glob("evaluate/*/about.json"):
        digest = settings_digest(PARAMS, Cell.parse(path.parent.name))
        path.write_text(json.dumps({**json.loads(path.read_text()), "settings": digest}))
    file = tmp_path / "cells.tar.xz"
    kept.keep(whole, file)
    assert len(tables.finished("table2", PARAMS, TABLE, file)) == 6
    raw = PARAMS.model_dump()
    for change in ({"init": "random"}, {"train": {"epochs": 1}}, {"views": {"count": 0}}):
        assert not tables.finished("table2", Params.model_validate({**raw, **change}), TABLE, file)
    (whole / "folds" / "folds.json").unlink()
    with pytest.raises(DataError, match=r"dvc repro folds"):
        tables.finished("table2", PARAMS, TABLE, file)


def test_the_long_runs_stand_in_the_main_table(tmp_path: Path) -> None:
    raw = PARAMS.model_dump()
    recipes = {**raw["recipes"], "paper_long": {"model": {"name": "lerenet"}}}
    params = Params.model_validate(
        {**raw, "recipes": recipes, "tables": {"long": {"recipes": ["paper_long"]}}}
    )
    root = make_artifacts(tmp_path / "artifacts", recipes=("lerenet", "paper_long"))
    assert "paper_long (" in results(collect(root, params)).partition("## Clean queries")[0]
