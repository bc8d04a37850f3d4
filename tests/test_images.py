"""Odd images are read right or refused with their name; nothing is read wrong in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lerenet.data import images
from lerenet.errors import DataError

GREY = np.tile(np.arange(0, 250, 10, dtype=np.uint8), (20, 1))  # (20, 25)
SPOT = np.zeros((20, 25), dtype=bool)
SPOT[3:8, 10:20] = True


def save(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


def grey() -> Image.Image:
    return Image.fromarray(GREY)


def test_grey_palette_alpha_and_cmyk_become_rgb(tmp_path: Path) -> None:
    colour = grey().convert("RGB")
    for name, picture in {
        "grey.png": grey(),
        "palette.png": colour.quantize(32),
        "rgba.png": colour.convert("RGBA"),
        "la.png": grey().convert("LA"),
        "cmyk.jpg": colour.convert("CMYK"),
        "tile.bmp": colour,
    }.items():
        found = images.read_image(save(tmp_path / name, picture))
        assert found.shape == (20, 25, 3)
        assert found.dtype == np.uint8
        assert np.abs(found.mean(2) - GREY).mean() < 8, name


def test_sixteen_bit_is_scaled_or_refused_when_it_would_be_black(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 257
    found = images.read_image(save(tmp_path / "deep.png", Image.fromarray(deep)))
    assert (found[..., 0] == GREY).all()
    dark = save(tmp_path / "dark.png", Image.fromarray(GREY.astype(np.uint16)))
    with pytest.raises(DataError, match=r"dark\.png: 16-bit.*\n.*scale it"):
        images.read_image(dark)


def test_an_exif_turn_is_applied_to_size_and_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    path = save(tmp_path / "turned.jpg", grey().convert("RGB"), exif=exif, quality=95)
    assert images.image_size(path) == (20, 25)
    found = images.read_image(path)
    assert found.shape == (25, 20, 3)
    assert np.abs(found[..., 0].astype(int) - np.rot90(GREY, -1)).mean() < 4


def test_broken_files_are_refused_with_their_name(tmp_path: Path) -> None:
    whole = save(
        tmp_path / "whole.png", Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99), np.uint8))
    )
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:3000])
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    for path in (cut, text, tmp_path / "none.png"):
        with pytest.raises(DataError, match=path.name):
            images.read_image(path)
        with pytest.raises(DataError, match=path.name):
            images.read_mask(path)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "bomb.png", Image.new("1", (12_000, 9_000)))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"bomb\.png: over 64 million pixels"):
        images.read_image(path)


def test_masks_of_every_usual_kind_are_read_alike(tmp_path: Path) -> None:
    white = Image.fromarray(SPOT.astype(np.uint8) * 255)
    ones = Image.fromarray(SPOT.astype(np.uint8))
    palette = ones.copy().convert("P")
    palette.putpalette([0, 0, 0, 200, 30, 30] + [0] * 762)
    drawn = np.zeros((20, 25, 4), np.uint8)
    drawn[SPOT] = (0, 0, 0, 255)
    for name, picture in {
        "white.png": white, "ones.png": ones, "bool.png": white.convert("1"), "rgb.png": white.convert("RGB"),
        "palette.png": palette, "drawn.png": Image.fromarray(drawn), "label.bmp": white,
    }.items():  # fmt: skip
        assert (images.read_mask(save(tmp_path / name, picture)) == SPOT).all(), name
    noisy = images.read_mask(save(tmp_path / "noisy.jpg", white, quality=90))
    assert (noisy != SPOT).mean() < 0.02


def test_a_grey_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"grey\.png.*\n.*0 for background"):
        images.read_mask(save(tmp_path / "grey.png", grey()))
    assert not images.measure_mask(tmp_path / "grey.png").binary


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(5, 300), st.integers(5, 300), st.sampled_from([32, 64]))
def test_a_mask_never_vanishes_when_it_is_scaled(seed: int, height: int, width: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), dtype=bool)
    mask[rng.integers(height), rng.integers(width)] = True
    scaled = images.resize_mask(mask, side)
    assert scaled.shape == (side, side)
    assert scaled.any()
    assert not images.resize_mask(np.zeros((height, width), dtype=bool), side).any()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    images.write_mask(tmp_path / "m.png", SPOT)
    assert (images.read_mask(tmp_path / "m.png") == SPOT).all()
    assert images.measure_mask(tmp_path / "m.png").canonical
    picture = np.repeat(GREY[..., None], 3, axis=2)
    Image.fromarray(picture).save(tmp_path / "p.png")
    assert (images.read_image(tmp_path / "p.png") == picture).all()
