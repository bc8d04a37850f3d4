"""Names in every alphabet, encoding, normal form and length come in, each image under a name of its own."""

from __future__ import annotations

import csv
import os
import shutil
import unicodedata
import zipfile
from pathlib import Path

import pytest

from lerenet.data.cataloguing import build_catalog
from lerenet.data.importing.importer import import_dataset
from lerenet.data.names import CLASS_NAME, LONGEST_STEM, safe_stem
from lerenet.errors import DataError
from tests.helpers.import_sources import mask, names, pair, picture, spec

NFC, NFD = (unicodedata.normalize(form, "Öl") for form in ("NFC", "NFD"))


def rows(data: Path) -> list[dict[str, str]]:
    with (data / "sources.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize(("image", "gt", "row"), [(NFD, NFC, NFC), (NFC, NFD, NFD)])
def test_names_that_are_equal_to_the_eye_are_a_pair_with_their_group(
    tmp_path: Path, image: str, gt: str, row: str
) -> None:
    pair(tmp_path / "in", "Rust", image, gt)
    (tmp_path / "in" / "sources.csv").write_text(
        f"file,group_id\nRust/Images/{row}.jpg,part7\n", encoding="utf-8"
    )
    import_dataset(tmp_path / "in", tmp_path / "data")
    (written,) = rows(tmp_path / "data")
    assert written["group_id"] == "part7"
    assert Path(written["file"]).stem == safe_stem(NFC) == safe_stem(NFD)
    assert build_catalog(tmp_path / "data", tmp_path / "c.parquet")["group"].tolist() == ["Rust/part7"]


def test_letters_that_are_lost_leave_a_digest_that_other_files_do_not_change(tmp_path: Path) -> None:
    for number, name in enumerate(("划痕一", "划痕二", "plain")):
        pair(tmp_path / "in", "Rust", name, seed=number)
    import_dataset(tmp_path / "in", tmp_path / "data")
    both = names(tmp_path / "data", ["Images"])
    assert len(both) == 3
    assert "Rust/Images/plain.jpg" in both
    assert {row["source_path"] for row in rows(tmp_path / "data")} >= {"Rust/Images/划痕一.jpg"}
    for folder, suffix in (("Images", "jpg"), ("GT", "png")):
        (tmp_path / "in" / "Rust" / folder / f"划痕一.{suffix}").unlink()
    import_dataset(tmp_path / "in", tmp_path / "data")
    assert set(names(tmp_path / "data", ["Images"])) < set(both)


def test_names_that_are_not_utf8_come_in_and_can_be_read_in_the_table(tmp_path: Path) -> None:
    pair(tmp_path / "in", "Rust", "a")
    odd = os.fsdecode(b"R\xfcst")
    for folder, suffix in (("Images", ".jpg"), ("GT", ".png")):
        shutil.move(
            tmp_path / "in" / "Rust" / folder / f"a{suffix}",
            tmp_path / "in" / "Rust" / folder / f"{odd}{suffix}",
        )
    import_dataset(tmp_path / "in", tmp_path / "data")
    (row,) = rows(tmp_path / "data")
    assert row["file"].isascii()
    assert row["source_path"] == r"Rust/Images/R\xfcst.jpg"
    mask(tmp_path / "in" / "Rust" / "GT" / "x.png").rename(
        tmp_path / "in" / "Rust" / "GT" / os.fsdecode(b"\xff.png")
    )
    with pytest.raises(DataError, match=r"\\xff\.png: a mask without an image") as caught:
        import_dataset(tmp_path / "in", tmp_path / "data")
    str(caught.value).encode()


def test_names_that_become_the_same_are_told_apart_but_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    for number, name in enumerate(("a b", "a_b", "a(b")):
        pair(tmp_path / "in", "Rust", name, seed=number)
    import_dataset(tmp_path / "in", tmp_path / "data")
    found = names(tmp_path / "data", ["Images"])
    assert len(found) == 3
    assert "Rust/Images/a_b.jpg" in found
    picture(tmp_path / "in" / "Rust" / "Images" / "a_b.png")
    with pytest.raises(DataError, match="2 images would be named Rust/a_b"):
        import_dataset(tmp_path / "in", tmp_path / "data")


def test_a_name_as_long_as_the_system_allows_is_cut(tmp_path: Path) -> None:
    name = "n" * 250
    picture(tmp_path / "in" / "Rust" / "Images" / f"{name}.png")
    mask(tmp_path / "in" / "Rust" / "GT" / f"{name}.png", value=1)
    import_dataset(tmp_path / "in", tmp_path / "data")
    ((image, gt),) = zip(names(tmp_path / "data", ["Images"]), names(tmp_path / "data", ["GT"]), strict=True)
    assert Path(image).stem == Path(gt).stem
    assert len(Path(image).stem) == LONGEST_STEM


def test_a_line_break_is_no_part_of_a_class_name() -> None:
    assert CLASS_NAME.match("Rust_2")
    assert not any(map(CLASS_NAME.match, ("Rust\n", "_Rust", "Röst", "R" * 65, "")))


def test_a_name_that_would_be_hidden_is_not(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "c" / "im.a.png")
    own = spec(tmp_path / "own.yaml", {"images": "{cls}/im{id}.png", "stem": "{id}"})
    import_dataset(tmp_path / "in", tmp_path / "data", spec=own)
    assert names(tmp_path / "data") == ["c/Nd/_a.jpg"]


@pytest.mark.parametrize("add", [False, True])
def test_classes_that_differ_in_capitals_are_refused(tmp_path: Path, add: bool) -> None:
    pair(tmp_path / "in", "Rust", "a")
    if add:
        import_dataset(tmp_path / "in", tmp_path / "data")
    pair(tmp_path / "in2" if add else tmp_path / "in", "rust", "b", seed=1)
    with pytest.raises(DataError, match="classes Rust and rust differ only in capitals"):
        import_dataset(tmp_path / "in2" if add else tmp_path / "in", tmp_path / "data", add=add)


@pytest.mark.parametrize("name", ["Rust.zip", "Rust.tar.gz", "Rust.TGZ"])
def test_an_archive_of_one_class_names_it(tmp_path: Path, name: str) -> None:
    pair(tmp_path / "in", "x", "a")
    made = shutil.make_archive(
        str(tmp_path / "made"), "zip" if name.endswith("zip") else "gztar", tmp_path / "in" / "x"
    )
    Path(made).rename(tmp_path / name)
    assert import_dataset(tmp_path / name, tmp_path / "data").defect == {"Rust": 1}


def test_an_archive_of_a_windows_tool_is_read_and_errors_name_it(tmp_path: Path) -> None:
    pair(tmp_path / "in", "Rust", "a")
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("Rust\\Images\\", b"")
        for path in sorted((tmp_path / "in").rglob("*.*")):
            archive.writestr("\\".join(path.relative_to(tmp_path / "in").parts), path.read_bytes())
    assert import_dataset(tmp_path / "w.zip", tmp_path / "data").defect == {"Rust": 1}
    with zipfile.ZipFile(tmp_path / "w.zip", "a") as archive:
        archive.writestr("Rust\\Images\\b.jpg", b"x")
    with pytest.raises(DataError, match=r"w\.zip/Rust/Images/b\.jpg: its mask"):
        import_dataset(tmp_path / "w.zip", tmp_path / "data")
