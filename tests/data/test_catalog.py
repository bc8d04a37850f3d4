"""The catalogue: every image once, with what later stages rely on; faults are listed together."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lerenet.data.catalog import load_catalog
from lerenet.data.cataloguing import build_catalog, perceptual_hash
from lerenet.errors import DataError
from tests.helpers.factories import tiny_dataset

COLUMNS = {
    "image", "mask", "cls", "fold", "kind", "group", "width", "height", "mask_width", "mask_height", "mask_binary",
    "foreground", "sha256", "mask_sha256", "phash",
}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny_dataset(tmp_path / "data", classes=3, defect=4, clean=2, size=32, groups=2)


def test_every_image_has_one_row_with_its_facts(data: Path, tmp_path: Path) -> None:
    catalog = build_catalog(data, tmp_path / "catalog.parquet")
    assert set(catalog.columns) >= COLUMNS
    assert len(catalog) == 18
    assert catalog["image"].is_unique
    assert catalog["image"].is_monotonic_increasing
    defects = catalog[catalog["kind"] == "defect"]
    assert defects.groupby("cls")["group"].nunique().eq(2).all()
    row = defects.iloc[0]
    share = (np.asarray(Image.open(data / row["mask"])) > 0).mean()
    assert row["foreground"] == pytest.approx(share)
    assert (row["width"], row["mask_height"]) == (32, 32)
    clean = catalog[catalog["kind"] == "clean"]
    assert (clean["foreground"] == 0).all()
    assert (clean["mask"] == "").all()
    assert load_catalog(tmp_path / "catalog.parquet").equals(catalog)


def test_all_faults_are_listed_in_one_error(data: Path, tmp_path: Path) -> None:
    cut = next((data / "C00" / "Images").glob("*.jpg"))
    cut.write_bytes(cut.read_bytes()[:100])
    lost = next((data / "C01" / "GT").glob("*.png"))
    lost.unlink()
    (data / "C02" / "Images" / "notes.txt").write_text("x")
    with pytest.raises(DataError) as caught:
        build_catalog(data, tmp_path / "catalog.parquet")
    for name in (cut.name, lost.stem, "notes.txt"):
        assert name in str(caught.value)
    assert not (tmp_path / "catalog.parquet").exists()


def test_no_data_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data there[\s\S]*lerenet data sample"):
        build_catalog(tmp_path / "data", tmp_path / "catalog.parquet")


def test_a_near_duplicate_has_a_near_hash_and_another_image_has_not() -> None:
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 255, (8, 8, 3), np.uint8) for _ in range(2)]
    first, other = (np.asarray(Image.fromarray(c).resize((96, 96), Image.Resampling.BICUBIC)) for c in coarse)
    brighter = np.clip(first.astype(int) + 6, 0, 255).astype(np.uint8)

    def distance(a: np.ndarray, b: np.ndarray) -> int:  # type: ignore[type-arg]
        return (int(perceptual_hash(a), 16) ^ int(perceptual_hash(b), 16)).bit_count()

    assert distance(first, brighter) <= 2
    assert distance(first, other) > 10


@pytest.mark.parametrize(
    "name",
    ["top.jpg", "C00/a.png", "C00/Good/a.jpg", "C00/images/a.JPG", "C00/Images/more/a.jpg", "C00/x/y/a.heic"],
)
def test_an_image_where_nothing_reads_it_is_named(data: Path, tmp_path: Path, name: str) -> None:
    (data / name).parent.mkdir(parents=True, exist_ok=True)
    (data / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"1 files can't be used") as caught:
        build_catalog(data, tmp_path / "catalog.parquet")
    assert str(data / name) in str(caught.value) or f"{(data / name).parent}: a folder" in str(caught.value)


def test_notes_and_hidden_files_beside_the_images_are_no_problem(data: Path, tmp_path: Path) -> None:
    for name in ("readme.md", "C00/notes.txt", ".thumbs/a.png", "C00/Images/.a.jpg", "C01/GT/Thumbs.db"):
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes(b"x")
    assert len(build_catalog(data, tmp_path / "catalog.parquet")) == 18


def test_names_that_are_not_utf8_and_links_to_nothing_are_problems_by_name(
    data: Path, tmp_path: Path
) -> None:
    for folder in (b"C00/Images", b"C01/GT"):
        Path(os.fsdecode(os.fsencode(data) + b"/" + folder + b"/b\xfc.png")).write_bytes(b"x")
    shutil.copytree(data / "C02", Path(os.fsdecode(os.fsencode(data) + b"/C\xfc")))
    (data / "C02" / "Nd" / "lost.jpg").symlink_to("/nowhere/at/all")
    with pytest.raises(DataError, match="4 files can't be used") as caught:
        build_catalog(data, tmp_path / "catalog.parquet")
    text = str(caught.value)
    text.encode()
    for name in (r"C00/Images/b\xfc.png: its", r"C01/GT/b\xfc.png: its", r"C\xfc: its name is not UTF-8"):
        assert name in text
    assert "lost.jpg: a link to nothing" in text


def test_image_mask_and_group_are_one_in_every_normal_form(data: Path, tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "Öl") for form in ("NFC", "NFD"))
    for folder, name in (("Images", f"{nfd}.jpg"), ("GT", f"{nfc}.png")):
        next((data / "C00" / folder).glob("*_000*")).rename(data / "C00" / folder / name)
    table = (data / "sources.csv").read_text().replace("C00/Images/C00_defect_000", f"C00/Images/{nfc}")
    (data / "sources.csv").write_text(table, encoding="utf-8")
    catalog = build_catalog(data, tmp_path / "catalog.parquet")
    assert catalog.set_index("image")["group"][f"C00/Images/{nfd}.jpg"] == "C00/g0"


def test_classes_that_differ_in_capitals_are_refused(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "C00", data / "c00")
    with pytest.raises(DataError, match="classes C00 and c00 differ only in capitals"):
        build_catalog(data, tmp_path / "catalog.parquet")
