"""The sample data set: the same bytes every time, groups, clean images, and it passes validation."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from lerenet.data import sample
from lerenet.data.cataloguing import build_catalog, perceptual_hash
from lerenet.data.images import read_image
from lerenet.data.masks import read_mask
from lerenet.data.sample import make_sample
from lerenet.data.sample.classes import KINDS


def digest(folder: Path) -> str:
    hasher = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        hasher.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return hasher.hexdigest()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "data"
    make_sample(folder, seed=0, defect=3, clean=1)
    return folder


def test_another_process_writes_the_same_bytes(small: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lerenet.data.sample import make_sample;"
        "make_sample(Path(sys.argv[1]), 0, 3, 1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], check=True)
    assert digest(tmp_path / "again") == digest(small)


def test_another_seed_makes_other_images(small: Path, tmp_path: Path) -> None:
    make_sample(tmp_path / "other", seed=1, defect=1, clean=1)
    name = f"{KINDS[0].name}/Images/{KINDS[0].name}_000.jpg"
    assert (tmp_path / "other" / name).read_bytes() != (small / name).read_bytes()


def test_it_has_twelve_classes_groups_clean_images_and_sound_masks(small: Path, tmp_path: Path) -> None:
    catalog = build_catalog(small, tmp_path / "catalog.parquet")
    assert catalog["cls"].nunique() == 12
    assert catalog.groupby("fold")["cls"].nunique().tolist() == [4, 4, 4]
    defects = catalog[catalog["kind"] == "defect"]
    assert defects.groupby("cls").size().eq(3).all()
    assert (defects.groupby("cls")["group"].nunique() < 3).any()
    assert defects["mask_binary"].all()
    assert defects["foreground"].between(0.0005, 0.7).all()
    assert (catalog["width"] == catalog["height"]).mean() < 0.6


def test_specimens_of_a_numbered_class_are_told_apart_by_their_hashes(tmp_path: Path) -> None:
    """So a made data set of thousands passes validation: unmottled, the closest differ by 4 bits."""
    kind = sample._numbered(15)
    hashes: dict[str, int] = {}
    for _, _, file, group, *_ in sample._class(tmp_path, kind, (0, 15), defect=120, clean=0):
        hashes.setdefault(group, int(perceptual_hash(read_image(tmp_path / file)), 16))
    assert min((one ^ other).bit_count() for one, other in combinations(hashes.values(), 2)) > 8


def test_defects_can_be_seen(small: Path, tmp_path: Path) -> None:
    """The surface differs under the mask from around it in most images of every class."""
    for kind in KINDS:
        seen = []
        for path in sorted((small / kind.name / "Images").glob("*.jpg")):
            picture, mask = read_image(path).mean(2), read_mask(small / kind.name / "GT" / f"{path.stem}.png")
            inside, outside = picture[mask], picture[~mask]
            spread = abs(inside.std() - outside.std()) / outside.std()
            seen.append(max(abs(inside.mean() - outside.mean()) / outside.std(), spread) > 0.1)
        assert np.mean(seen) > 0.5, kind.name


def test_the_sample_never_takes_the_place_of_data_that_a_killed_import_left(tmp_path: Path) -> None:
    """Killed between its last two renames, an import leaves the old folder under a temporary's name."""
    from typer.testing import CliRunner

    from lerenet.cli.data import app
    from lerenet.files import TEMPORARY

    old = tmp_path / f"{TEMPORARY}999999999-old-data"
    old.mkdir()
    (old / "mine.jpg").write_text("mine")
    done = CliRunner().invoke(app, ["sample", "--if-missing", "--data", str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "data" / "mine.jpg").read_text() == "mine"
    assert "there already" in done.output
