"""Images come in whole and right from every known layout, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from lerenet.data.cataloguing import build_catalog
from lerenet.data.importing.importer import import_dataset
from lerenet.data.masks import read_mask
from lerenet.errors import DataError, LerenetError
from tests.helpers.factories import tiny_dataset
from tests.helpers.import_sources import mask, picture


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_dataset(tmp_path / "source", classes=3, defect=3, clean=1, size=32, groups=2)


def test_a_canonical_folder_and_its_archive_come_in_byte_for_byte(source: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for path in sorted(source.rglob("*")):
            archive.write(path, f"top/{path.relative_to(source)}")
    for given in (source, tmp_path / "s.zip"):
        done = import_dataset(given, tmp_path / "data")
        assert done.defect.total() == 9
        assert done.clean.total() == 3
        for path in source.rglob("*.jpg"):
            assert (tmp_path / "data" / path.relative_to(source)).read_bytes() == path.read_bytes()
    catalog = build_catalog(tmp_path / "data", tmp_path / "catalog.parquet")
    assert catalog[catalog["kind"] == "defect"].groupby("cls")["group"].nunique().eq(2).all()


KILLED = """
import os, signal, sys
from pathlib import Path
from lerenet.data.importing import importer
importer.find = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
importer.import_dataset(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_what_a_killed_import_unpacked_goes_with_the_next_import(source: Path, tmp_path: Path) -> None:
    archive, data = shutil.make_archive(str(tmp_path / "s"), "zip", source), tmp_path / "data"
    killed = subprocess.run([sys.executable, "-c", KILLED, archive, str(data)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list(tmp_path.glob(".lerenet-tmp-*/C00"))
    import_dataset(source, data)
    assert not list(tmp_path.glob(".lerenet-tmp-*"))


def test_an_error_leaves_the_old_data_as_they_were(source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    import_dataset(source, data)
    before = sorted(path.read_bytes() for path in data.rglob("*") if path.is_file())
    broken = next((source / "C01" / "Images").glob("*.jpg"))
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=broken.name):
        import_dataset(source, data)
    assert sorted(path.read_bytes() for path in data.rglob("*") if path.is_file()) == before
    assert not list(tmp_path.glob(".lerenet-tmp-*"))


def test_a_full_disk_leaves_the_old_data_as_they_were(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    import_dataset(source, data)
    calls = 0

    def full(*words: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(LerenetError, match="No space left"):
        import_dataset(source, data)
    assert len(list(data.rglob("*.jpg"))) == 12
    assert not list(tmp_path.glob(".lerenet-tmp-*"))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda f: next((f / "C00" / "GT").glob("*")).unlink(), "its mask .* is missing"),
        (lambda f: next((f / "C00" / "Images").glob("*")).unlink(), "a mask without an image"),
        (
            lambda f: mask(next((f / "C00" / "GT").glob("*")), defect=False, size=(32, 32)),
            "marks no pixel",
        ),
        (
            lambda f: mask(next((f / "C00" / "GT").glob("*")), size=(40, 32)),
            "40 x 32 pixels, its image .* 32 x 32",
        ),
        (
            lambda f: mask(next((f / "C00" / "GT").glob("*")), defect=False, size=(32, 32), invert=True),
            "100% of it is",
        ),
        (lambda f: (f / "C00").rename(f / "C 0-0"), "class name 'C 0-0'"),
    ],
)
def test_each_fault_is_named(source: Path, tmp_path: Path, spoil, expected: str) -> None:
    spoil(source)
    with pytest.raises(DataError, match=expected):
        import_dataset(source, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_nothing_known_and_nothing_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not found"):
        import_dataset(tmp_path / "none", tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no data set of a known layout .*magnetic-tile"):
        import_dataset(tmp_path / "empty", tmp_path / "data")
    with pytest.raises(DataError, match="unknown kind 'x'"):
        import_dataset(tmp_path / "empty", tmp_path / "data", kind="x")


def test_adding_a_class_keeps_the_others(source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    import_dataset(source, data)
    picture(tmp_path / "more" / "Rust" / "Images" / "a.png")
    mask(tmp_path / "more" / "Rust" / "GT" / "a.png")
    done = import_dataset(tmp_path / "more", data, add=True)
    assert set(done.defect) == {"C00", "C01", "C02", "Rust"}
    assert done.dealt == ["Rust"]
    about = yaml.safe_load((data / "dataset.yaml").read_text())
    assert sum(map(len, about["folds"])) == 4
    assert len(list((data / "C01" / "Images").glob("*.jpg"))) == 3
    assert (data / "Rust" / "Images" / "a.jpg").exists()


@pytest.mark.parametrize("table", [None, "file,group_id\nC00/Images/C00_defect_000.jpg,part7\n"])
def test_adding_a_class_keeps_those_without_a_row_in_sources(
    source: Path, tmp_path: Path, table: str | None
) -> None:
    (source / "sources.csv").unlink()
    if table:
        (source / "sources.csv").write_text(table)
    picture(tmp_path / "more" / "Rust" / "Images" / "a.png")
    mask(tmp_path / "more" / "Rust" / "GT" / "a.png")
    done = import_dataset(tmp_path / "more", source, add=True)
    assert done.defect == {"C00": 3, "C01": 3, "C02": 3, "Rust": 1}
    assert done.clean == {"C00": 1, "C01": 1, "C02": 1}
    assert done.dealt == ["Rust"]
    catalog = build_catalog(source, tmp_path / "catalog.parquet")
    assert (catalog["fold"] >= 0).all()
    assert ("C00/part7" in set(catalog["group"])) == bool(table)


def test_magnetic_tile(tmp_path: Path) -> None:
    for number, frame in enumerate((100, 150, 900)):
        for exposure in (1, 2):
            stem = tmp_path / "mt" / "MT_Break" / "Imgs" / f"exp{exposure}_num_{frame + exposure}"
            picture(stem.with_suffix(".jpg"), number)
            mask(stem.with_suffix(".png"))
    picture(tmp_path / "mt" / "MT_Free" / "Imgs" / "exp1_num_5000.jpg", 9)
    mask(tmp_path / "mt" / "MT_Free" / "Imgs" / "exp1_num_5000.png", defect=False)
    done = import_dataset(tmp_path / "mt", tmp_path / "data")
    assert done.source == "magnetic-tile"
    assert (done.defect["MT_Break"], done.clean["MT_Break"]) == (6, 1)
    catalog = build_catalog(tmp_path / "data", tmp_path / "c.parquet")
    assert catalog[catalog["kind"] == "defect"]["group"].nunique() == 3


def test_mvtec_kolektor_and_saliency(tmp_path: Path) -> None:
    picture(tmp_path / "mv" / "leather" / "test" / "cut" / "000.png")
    mask(tmp_path / "mv" / "leather" / "ground_truth" / "cut" / "000_mask.png")
    picture(tmp_path / "mv" / "leather" / "test" / "good" / "000.png", 1)
    done = import_dataset(tmp_path / "mv", tmp_path / "a")
    assert (done.source, done.defect["leather"], done.clean["leather"]) == ("mvtec-ad", 1, 1)
    for part, defect in ((0, False), (1, True)):
        picture(tmp_path / "ks" / "kos01" / f"Part{part}.jpg", part, mode="L")
        mask(tmp_path / "ks" / "kos01" / f"Part{part}_label.bmp", defect)
    done = import_dataset(tmp_path / "ks", tmp_path / "b")
    assert (done.source, done.defect["KSDD"], done.clean["KSDD"]) == ("kolektor-sdd", 1, 1)
    picture(tmp_path / "sd" / "Source Images" / "Pa_7.bmp")
    mask(tmp_path / "sd" / "Ground truth" / "Pa_7.png")
    done = import_dataset(tmp_path / "sd", tmp_path / "c")
    assert (done.source, done.defect["Steel_Pa"]) == ("sd-saliency-900", 1)


def test_a_layout_of_ones_own_is_one_small_entry(tmp_path: Path) -> None:
    picture(tmp_path / "own" / "rust" / "photo_1.tif", size=(40, 30))
    mask(tmp_path / "own" / "rust" / "mark_1.png", invert=True)
    spec = tmp_path / "own.yaml"
    rule = {"images": "{cls}/photo_{id}.tif", "mask": "{cls}/mark_{id}.png", "inverted": True}
    spec.write_text(yaml.safe_dump({"name": "own", "rules": [rule]}))
    done = import_dataset(tmp_path / "own", tmp_path / "data", spec=spec)
    assert done.defect["rust"] == 1
    found = read_mask(tmp_path / "data" / "rust" / "GT" / "rust_1.png")
    assert found[7, 10]
    assert not found[0, 0]
    spec.write_text(yaml.safe_dump({"name": "own", "rules": [{**rule, "imges": "x"}]}))
    with pytest.raises(DataError, match=r"own\.yaml: rules\.0\.imges"):
        import_dataset(tmp_path / "own", tmp_path / "data", spec=spec)


def test_adding_a_data_set_with_folds_of_its_own_moves_no_old_class(tmp_path: Path) -> None:
    data = tmp_path / "data"
    old = tiny_dataset(tmp_path / "old", classes=6, defect=2, clean=0, size=32)
    import_dataset(old, data)
    before = yaml.safe_load((data / "dataset.yaml").read_text())
    new = tmp_path / "new"
    picture(new / "Rust" / "Images" / "a.png")
    mask(new / "Rust" / "GT" / "a.png")
    (new / "dataset.yaml").write_text(
        yaml.safe_dump({"name": "new", "folds": [["C05", "C04"], ["Rust"], ["C00"]]})
    )
    import_dataset(new, data, add=True)
    after = yaml.safe_load((data / "dataset.yaml").read_text())
    assert after["name"] == before["name"]
    assert [[cls for cls in fold if cls != "Rust"] for fold in after["folds"]] == before["folds"]
    assert "Rust" in after["folds"][1]


def test_a_class_that_is_not_there_in_the_folds_is_said(source: Path, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("[[C00], [C01], [C02, Typo]]")
    with pytest.raises(DataError, match=r"f\.yaml: no class 'Typo'"):
        import_dataset(source, tmp_path / "data", folds=tmp_path / "f.yaml")
