"""Odd images are read right or refused with their name; nothing is read wrong in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from lerenet.data import images
from lerenet.errors import DataError

GREY = np.tile(np.arange(0, 250, 10, dtype=np.uint8), (20, 1))  # (20, 25)


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


def test_sixteen_bit_is_scaled_over_its_range_or_over_the_bits_that_are_said(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 257
    found = images.read_image(save(tmp_path / "deep.png", Image.fromarray(deep)))
    assert (found[..., 0] == GREY).all()
    for bits in (8, 10, 12, 14):
        top = (1 << bits) - 1
        values = np.round(GREY.astype(float) * top / 255).astype(np.uint16)
        values[3, 4] = 65535  # a hot pixel makes it no brighter
        path = save(tmp_path / f"{bits}.png", Image.fromarray(values))
        with pytest.raises(DataError, match=rf"{bits}\.png: 16-bit.*dark\n.*--bits"):
            images.read_image(path)
        found = images.read_image(path, bits)[..., 0]
        assert found[3, 4] == 255
        assert np.abs(np.delete(found.ravel(), 3 * 25 + 4) - np.delete(GREY.ravel(), 3 * 25 + 4)).max() <= 1
    assert images.read_image(path, 16).max() == 255  # said to be dark


@pytest.mark.parametrize("order", ["<", ">"])
def test_deep_colours_that_would_come_out_dark_are_refused(tmp_path: Path, order: str) -> None:
    values = np.stack([GREY.astype(np.uint16) * 16] * 3, axis=-1)
    tifffile.imwrite(tmp_path / "c.tif", values, photometric="rgb", byteorder=order)
    with pytest.raises(DataError, match=r"c\.tif: 16-bit"):
        images.read_image(tmp_path / "c.tif")
    with pytest.raises(DataError, match=r"c\.tif: 12 bits in a 16-bit file of several channels"):
        images.read_image(tmp_path / "c.tif", 12)


def test_white_at_zero_is_inverted_whatever_the_depth(tmp_path: Path) -> None:
    for depth, factor in ((np.uint8, 1), (np.uint16, 257)):
        path = tmp_path / "w.tif"
        tifffile.imwrite(path, (255 - GREY).astype(depth) * factor, photometric="miniswhite")
        assert (images.read_image(path)[..., 0] == GREY).all()


def test_signed_and_real_values_are_refused(tmp_path: Path) -> None:
    for kind in (np.int8, np.int16, np.int32, np.float32):
        tifffile.imwrite(tmp_path / "s.tif", GREY.astype(kind), photometric="minisblack")
        with pytest.raises(DataError, match=r"s\.tif: (signed|32-bit)"):
            images.read_image(tmp_path / "s.tif")


def test_an_exif_turn_is_applied_to_size_and_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    path = save(tmp_path / "turned.jpg", grey().convert("RGB"), exif=exif, quality=95)
    assert images.image_size(path) == (20, 25)
    found = images.read_image(path)
    assert found.shape == (25, 20, 3)
    assert np.abs(found[..., 0].astype(int) - np.rot90(GREY, -1)).mean() < 4


@pytest.mark.parametrize("turn", [2, 5, 6, 7, 8])
def test_a_turned_tiff_has_one_size_and_is_turned_once(tmp_path: Path, turn: int) -> None:
    from tests.helpers.odd_files import restored

    path = tmp_path / "t.tif"
    tifffile.imwrite(path, GREY, photometric="minisblack", extratags=[(274, 3, 1, turn, True)])
    expected = restored(GREY, turn)
    assert images.image_size(path) == expected.shape[::-1]
    assert (images.read_image(path)[..., 0] == expected).all()


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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x1cftypheic\0\0\0\0", "HEIC is not read"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF is not read"),
        (b"GIF89a\1\0\1\0", "GIF is not read"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS.*\n.*git lfs pull"),
        (b'{"shapes": []}', "JSON is not read.*\n.*export"),
        (b"", "is empty"),
    ],
)
def test_what_people_name_jpg_is_called_by_its_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"photo\.jpg: .*{words}"):
        images.read_image(path)


def test_several_pages_and_a_page_without_a_picture_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "two.tif", grey(), save_all=True, append_images=[grey()])
    with pytest.raises(DataError, match=r"two\.tif: holds several pages"):
        images.read_image(tmp_path / "two.tif")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "bomb.png", Image.new("1", (12_000, 9_000)))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"bomb\.png: over 64 million pixels"):
        images.read_image(path)
