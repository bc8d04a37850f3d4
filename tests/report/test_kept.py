"""Cells in a file that travels: nothing of the page is lost, what is done is not run again, a bad file is refused."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from flows import tables
from lerenet.errors import DataError
from lerenet.params import Params, TableSettings
from lerenet.report import kept
from lerenet.report.build import collect
from lerenet.report.markdown import results
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
    assert len(kept.cells(kept.read(file), DIGEST)) == 6
    assert not kept.cells(kept.read(file), "of other episodes")
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
