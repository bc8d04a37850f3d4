"""One photo into data/: added, corrected, called good; whole or not at all, whoever else is at it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lerenet.cli.main import app
from lerenet.data.cataloguing import build_catalog
from lerenet.data.dataset import read_sources
from lerenet.data.encoding import encode_jpeg
from lerenet.data.importing.adding import Given, add_image
from lerenet.data.masks import read_mask
from lerenet.data.sample import make_sample
from lerenet.errors import DataError, LerenetError
from tests.helpers.prediction import picture, truth


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_sample(tmp_path / "data", defect=3, clean=2, classes=3)
    return tmp_path / "data"


@pytest.fixture
def cls(data: Path) -> str:
    return sorted(path.name for path in data.iterdir() if path.is_dir())[0]


def state(data: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(data)): path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()
    }


def test_a_photo_is_added_corrected_and_called_good(data: Path, cls: str, tmp_path: Path) -> None:
    before = state(data)
    photo = picture(tmp_path / "line" / "Foto 1.png", 3)
    name = add_image(data, Given(cls, photo, [truth(photo)], "part7", "Ada"))
    assert name.startswith(f"{cls}/Images/Foto_1-")
    row = read_sources(data)[name]
    assert (row["group_id"], row["kind"], row["source_path"]) == ("part7", "defect", "Foto 1.png")
    assert row["provenance"].startswith("added by Ada, 20")
    mask = data / name.replace("Images", "GT").replace(".jpg", ".png")
    assert (read_mask(mask) == read_mask(truth(photo))).all()

    other = tmp_path / "m.png"
    Image.fromarray(np.pad(np.full((20, 20), 255, np.uint8), ((10, 30), (10, 50)))).save(other)
    assert add_image(data, Given(cls, photo, [other], by="Bo")) == name
    assert read_mask(mask).sum() == 400
    assert read_sources(data)[name]["group_id"] == "part7"  # nobody said otherwise
    assert read_sources(data)[name]["provenance"].startswith("corrected by Bo")

    good = add_image(data, Given(cls, photo))
    assert good == name.replace("Images", "Nd")
    assert not mask.exists()
    assert name not in read_sources(data)
    assert {key: value for key, value in state(data).items() if key in before} | {
        "sources.csv": b""
    } == before | {"sources.csv": b""}
    assert len(build_catalog(data, tmp_path / "catalog.parquet")) == len(read_sources(data))


def test_a_photo_of_the_data_takes_its_own_place(data: Path, cls: str, tmp_path: Path) -> None:
    photo = sorted((data / cls / "Images").iterdir())[0]
    copy = tmp_path / f"upload{photo.suffix}"
    copy.write_bytes(photo.read_bytes())
    with Image.open(copy) as opened:
        width, height = opened.size
    mask = tmp_path / "m.png"
    Image.fromarray(np.pad(np.full((9, 9), 255, np.uint8), ((5, height - 14), (5, width - 14)))).save(mask)
    count = len(read_sources(data))
    name = add_image(data, Given(cls, copy, [mask]))
    assert Path(name).stem == photo.stem
    assert len(read_sources(data)) == count
    assert read_mask(data / cls / "GT" / f"{photo.stem}.png").sum() == 81


def test_a_png_that_was_imported_takes_its_own_place(data: Path, cls: str, tmp_path: Path) -> None:
    photo = picture(tmp_path / "a.png", 3)
    with Image.open(photo) as opened:
        kept = data / cls / "Images" / "kept.jpg"
        kept.write_bytes(encode_jpeg(np.asarray(opened.convert("RGB"))))
    (data / cls / "GT" / "kept.png").write_bytes(truth(photo).read_bytes())
    assert Path(add_image(data, Given(cls, photo, [truth(photo)]))).stem == "kept"


def test_names_that_begin_alike_are_left_alone(data: Path, cls: str, tmp_path: Path) -> None:
    photos = [picture(tmp_path / f"{seed}.png", seed) for seed in range(2)]
    for stem, photo in zip(("p[1]", "p[1].2"), photos, strict=True):
        with Image.open(photo) as opened:
            opened.convert("RGB").save(data / cls / "Images" / f"{stem}.jpg")
        (data / cls / "GT" / f"{stem}.png").write_bytes(truth(photo).read_bytes())
    first = tmp_path / "upload.jpg"
    first.write_bytes((data / cls / "Images" / "p[1].jpg").read_bytes())
    os.link(data / cls / "Images" / "p[1].jpg", tmp_path / "second name")
    before = (tmp_path / "second name").read_bytes()
    assert Path(add_image(data, Given(cls, first))).stem == "p[1]"
    assert (data / cls / "Images" / "p[1].2.jpg").exists()
    assert (data / cls / "GT" / "p[1].2.png").exists()
    assert not (data / cls / "Images" / "p[1].jpg").exists()
    assert (tmp_path / "second name").read_bytes() == before


def test_a_photo_of_two_classes_is_of_one_part_and_one_fold(data: Path, tmp_path: Path) -> None:
    one, two, three = sorted(path.name for path in data.iterdir() if path.is_dir())
    (data / "dataset.yaml").write_text(f"folds: [[{one}, {two}], [{three}], []]\n")
    photo = picture(tmp_path / "a.png", 3)
    first = add_image(data, Given(one, photo, [truth(photo)], "p7"))
    second = add_image(data, Given(two, photo))
    rows = read_sources(data)
    assert rows[first]["group_id"] == rows[second]["group_id"] == "p7"
    with pytest.raises(DataError, match="of part p7"):
        add_image(data, Given(two, photo, group="p8"))
    with pytest.raises(DataError, match="another fold"):
        add_image(data, Given(three, photo))


def test_what_cannot_be_used_changes_nothing(data: Path, cls: str, tmp_path: Path) -> None:
    before, photo = state(data), picture(tmp_path / "a.png", 3)
    small, empty = tmp_path / "small.png", tmp_path / "empty.png"
    Image.new("L", (8, 8), 255).save(small)
    Image.new("L", (80, 60)).save(empty)
    tiny = np.zeros((60, 80), np.uint8)
    tiny[:59] = 255
    Image.fromarray(tiny).save(tmp_path / "all.png")
    for given, said in (
        (Given("Nowhere", photo, [truth(photo)]), "no class of"),
        (Given(cls, photo, [small]), "8 x 8"),
        (Given(cls, photo, [empty]), "empty"),
        (Given(cls, photo, [tmp_path / "all.png"]), "all"),
        (Given(cls, tmp_path / "gone.png"), "not found"),
        (Given(cls, small), "pixels"),
    ):
        with pytest.raises(DataError, match=said):
            add_image(data, given)
        assert state(data) == before


@pytest.mark.parametrize("at", [1, 2])
def test_a_disk_that_fails_at_the_last_moment_leaves_the_data_as_they_were(
    data: Path, cls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    before, photo, calls = state(data), picture(tmp_path / "a.png", 3), 0
    replace = os.replace

    def failing(one: Any, two: Any) -> None:
        nonlocal calls
        if Path(one).resolve() == data.resolve() or Path(two).resolve() == data.resolve():
            calls += 1
            if calls == at:
                raise OSError(28, "No space left on device")
        replace(one, two)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(LerenetError, match="nothing was changed"):
        add_image(data, Given(cls, photo, [truth(photo)]))
    monkeypatch.undo()
    assert state(data) == before


def test_two_at_once_both_land(data: Path, cls: str, tmp_path: Path) -> None:
    photos = [picture(tmp_path / f"p{seed}.png", seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        names = list(pool.map(lambda photo: add_image(data, Given(cls, photo, [truth(photo)])), photos))
    assert len(set(names)) == 6
    assert set(names) <= set(read_sources(data))
    assert all((data / name).exists() for name in names)


def test_the_command_line_adds(data: Path, cls: str, tmp_path: Path) -> None:
    photo = picture(tmp_path / "a.png", 3)
    arguments = [
        "data",
        "add",
        str(photo),
        str(truth(photo)),
        "--class",
        cls,
        "--by",
        "Ada",
        "--data",
        str(data),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert f"{cls}/Images/a-" in done.output
    refused = CliRunner().invoke(app, ["data", "add", str(photo), "--class", "X", "--data", str(data)])
    assert refused.exit_code != 0
