"""The catalogue: every image once, with what later stages rely on; faults are listed together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lerenet.data.catalog import build_catalog, load_catalog, perceptual_hash
from lerenet.errors import DataError
from tests.factories import tiny_dataset

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
