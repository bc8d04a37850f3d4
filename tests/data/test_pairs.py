"""An image and its mask are checked together: turned alike, of one size, not swapped, not inverted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from lerenet.data.pairs import read_pair
from lerenet.data.reading import Reading
from lerenet.errors import DataError

RNG = np.random.default_rng(0)
SCENE = RNG.integers(60, 180, (40, 60), np.uint8)
SPOT = np.zeros((40, 60), dtype=bool)
SPOT[5:12, 40:55] = True


def save(path: Path, values: np.ndarray, turn: int = 1) -> Path:
    exif = Image.Exif()
    if turn != 1:
        exif[0x0112] = turn
    Image.fromarray(values.astype(np.uint8) * (255 if values.dtype == bool else 1)).save(path, exif=exif)
    return path


def test_masks_of_one_image_are_joined(tmp_path: Path) -> None:
    image = save(tmp_path / "i.png", SCENE)
    parts = [save(tmp_path / "a.png", SPOT), save(tmp_path / "b.png", np.roll(SPOT, 20, 0))]
    _, mask = read_pair(image, parts)
    assert (mask == (SPOT | np.roll(SPOT, 20, 0))).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_mask_is_turned_with_its_photo_only_where_it_was_drawn_on_raw_pixels(
    tmp_path: Path, suffix: str
) -> None:
    raw, upright = np.rot90(SCENE), SCENE  # orientation 6: turned by a quarter to be upright
    image = tmp_path / f"i.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(image, raw, photometric="minisblack", extratags=[(274, 3, 1, 6, True)])
    else:
        save(image, raw, 6)
    for mask in (save(tmp_path / "upright.png", SPOT), save(tmp_path / "raw.png", np.rot90(SPOT))):
        pixels, found = read_pair(image, [mask])
        assert (pixels[..., 0] == upright).all()
        assert (found == SPOT).all()
    own = save(tmp_path / "own.png", np.rot90(SPOT), 6)
    assert (read_pair(image, [own])[1] == SPOT).all()


@pytest.mark.parametrize(("turn", "shape"), [(3, (40, 60)), (6, (40, 40)), (2, (40, 60))])
def test_where_sizes_cannot_tell_it_must_be_said(tmp_path: Path, turn: int, shape: tuple[int, int]) -> None:
    scene, spot = SCENE[: shape[0], : shape[1]], SPOT[: shape[0], -shape[1] :]
    image, mask = save(tmp_path / "i.png", scene, turn), save(tmp_path / "m.png", spot)
    with pytest.raises(
        DataError, match=r"m\.png: may be drawn on the raw or on the upright pixels.*\n.*--drawn-on"
    ):
        read_pair(image, [mask])
    assert (read_pair(image, [mask], Reading(drawn_on="upright"))[1] == spot).all()
    assert (read_pair(image, [mask], Reading(drawn_on="raw"))[1] != spot).any()


def test_implausible_pairs_are_refused(tmp_path: Path) -> None:
    image, mask = save(tmp_path / "i.png", SCENE), save(tmp_path / "m.png", SPOT)
    dark = save(tmp_path / "dark.png", np.clip(RNG.normal(16, 5, (40, 60)), 0, 60) + 200 * SPOT)
    cases = {
        "inverted": (image, save(tmp_path / "inverted.png", ~SPOT), r"inverted\.png: 96% .*is black.*\n.*--inverted"),
        "framed": (image, save(tmp_path / "framed.png", ~np.pad(np.ones((20, 40), bool), 10)), "100% of its edge"),
        "empty": (image, save(tmp_path / "empty.png", SPOT & False), r"empty\.png: marks no pixel"),
        "swapped": (mask, image, r"m\.png: nothing but black and white"),
        "photo": (image, dark, r"dark\.png: a dark ground full of noise"),
        "size": (image, save(tmp_path / "small.png", SPOT[:20]), r"small\.png: 60 x 20 pixels, its image .* 60 x 40"),
        "tiny": (save(tmp_path / "tiny.png", SCENE[:9]), mask, r"tiny\.png: 60 x 9 pixels"),
    }  # fmt: skip
    for photo, marked, words in cases.values():
        with pytest.raises(DataError, match=words):
            read_pair(photo, [marked])
    assert (read_pair(image, [tmp_path / "inverted.png"], Reading(inverted=True))[1] == SPOT).all()
    assert read_pair(image, [tmp_path / "small.png"], resize=True)[1].shape == SPOT.shape
