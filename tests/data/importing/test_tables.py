"""dataset.yaml and sources.csv: one reader, which takes nothing for granted that people write by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from lerenet.data.cataloguing import build_catalog
from lerenet.data.dataset import read_dataset, read_folds, read_sources, write_tables
from lerenet.data.importing.importer import import_dataset
from lerenet.errors import DataError
from tests.helpers.factories import tiny_dataset
from tests.helpers.import_sources import pair


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("folds: [[A, C], [B], [C]]", "'C' is listed twice, in folds 0 and 2"),
        ("folds: [[A, A], [B], [C]]", "'A' is listed twice, in folds 0 and 0"),
        ("folds: [[A], [B]]", "not three lists"),
        ("name: x", "not three lists"),
        ("folds: [[A], B, [C]]", "not three lists"),
        ("folds: [[A], [on], [C]]", "True is no text"),
        ("folds: [[7], [B], [C]]", "fold 0: 7 is no text"),
        ("", "not three lists"),
        ("folds: [[A", "not valid YAML"),
        ("folds: [[A], [B], [C]]\nfolds: [[B], [A], [C]]", "twice"),
        ("a: &x [A]\nfolds: [*x, [B], [C]]", "alias"),
    ],
)
def test_folds_that_can_t_be_are_refused_with_the_table_s_name(
    tmp_path: Path, text: str, expected: str
) -> None:
    (tmp_path / "dataset.yaml").write_text(text)
    for read in (read_dataset, lambda folder: read_folds(folder / "dataset.yaml")):
        with pytest.raises(DataError, match=rf"dataset\.yaml: .*{expected}"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            ["C/Images/a.jpg,p1,,", "C/Images/a.jpg,p2,,"],
            "C/Images/a.jpg stands in lines 2 and 3, .*'p1' and 'p2'",
        ),
        (["C/Images/a.jpg,p1,,", "C/Images/a.jpg,p1,,"], "stands in lines 2 and 3"),
        (["C/Images/a.jpg,p1,D,"], "cls is 'D', but the file is C/Images/a.jpg"),
        (["C/Nd/a.jpg,p1,C,defect"], r"kind is 'defect', but the file is C/Nd/a.jpg \(clean\)"),
        ([",p1,C,"], "line 2: names no file"),
        (["C/Images/a,b.jpg,p1,C,defect"], "more cells"),
    ],
)
def test_rows_that_contradict_themselves_are_refused_with_their_line(
    tmp_path: Path, rows: list[str], expected: str
) -> None:
    (tmp_path / "sources.csv").write_text("\n".join(["file,group_id,cls,kind", *rows]))
    with pytest.raises(DataError, match=expected):
        read_sources(tmp_path)


def test_what_is_written_is_read_back_and_empty_lines_are_no_rows(tmp_path: Path) -> None:
    rows = [{"cls": "C", "kind": "defect", "file": f"C/Images/{name}.jpg", "group_id": ""} for name in "ba"]
    write_tables(tmp_path, rows, [["C"], [], []], {"name": "n", "licence": "l"})
    with (tmp_path / "sources.csv").open("a") as handle:
        handle.write(",,,,,,\n\n")
    assert list(read_sources(tmp_path)) == ["C/Images/b.jpg", "C/Images/a.jpg"]
    known = read_dataset(tmp_path)
    assert known is not None
    assert (known.about(), known.folds) == ({"name": "n", "licence": "l"}, [["C"], [], []])


def test_a_row_of_an_image_that_is_not_there_is_no_lost_group(tmp_path: Path) -> None:
    pair(tmp_path / "in", "Rust", "a")
    table = tmp_path / "in" / "sources.csv"
    table.write_text("file,group_id\nRust/Images/A.jpg,p1\n")
    with pytest.raises(DataError, match=r"Rust/Images/A\.jpg: named in sources\.csv, but not there"):
        import_dataset(tmp_path / "in", tmp_path / "data")
    table.write_text("file,group_id\nRust/Images/a.jpg,p1\nDent/Images/x.jpg,p2\n")
    assert import_dataset(tmp_path / "in", tmp_path / "data").defect == {"Rust": 1}


def test_the_catalogue_refuses_a_fold_s_class_without_a_folder(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", classes=3, defect=1, clean=0, size=32)
    (data / "dataset.yaml").write_text("folds: [[C00], [C01], [C02, Ghost]]")
    with pytest.raises(DataError, match=r"dataset\.yaml: fold 2 names Ghost, but there is no folder .*Ghost"):
        build_catalog(data, tmp_path / "c.parquet")


def test_a_table_that_is_a_folder_is_no_traceback(tmp_path: Path) -> None:
    for name in ("sources.csv", "dataset.yaml"):
        (tmp_path / name).mkdir()
    for read in (read_sources, read_dataset):
        with pytest.raises(DataError, match="can't be read: Is a directory"):
            read(tmp_path)
