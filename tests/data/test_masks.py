"""Masks: two values are read alike in every form, several labels are never merged or dropped in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lerenet.data.masks import measure_mask, read_mask
from lerenet.data.reading import Reading
from lerenet.errors import DataError

SPOT = np.zeros((40, 50), dtype=bool)
SPOT[6:16, 20:40] = True
OTHER = np.zeros_like(SPOT)
OTHER[25:34, 5:30] = True
LABELS = SPOT * 1 + OTHER * 2  # 0, 1, 2


def palette(labels: np.ndarray, colours: list[int]) -> Image.Image:
    image = Image.fromarray(labels.astype(np.uint8)).convert("P")
    image.putpalette(colours + [0] * (768 - len(colours)))
    return image


def coloured(labels: np.ndarray, colours: list[tuple[int, ...]]) -> Image.Image:
    return Image.fromarray(np.array(colours, np.uint8)[labels])


def grey(labels: np.ndarray, values: list[int], depth: type = np.uint8) -> Image.Image:
    return Image.fromarray(np.array(values, depth)[labels])


WHITE = grey(SPOT * 1, [0, 255])
TWO_VALUED = {
    "white.png": WHITE, "ones.png": grey(SPOT * 1, [0, 1]), "bool.png": WHITE.convert("1"),
    "rgb.png": WHITE.convert("RGB"),
    "fifty.png": grey(SPOT * 1, [0, 50]), "video.png": grey(SPOT * 1, [16, 235]),
    "palette.png": palette(SPOT * 1, [0, 0, 0, 200, 30, 30]), "dark.png": palette(SPOT * 1, [0, 0, 0, 20, 0, 0]),
    "black.png": palette(SPOT * 1, []), "swapped.png": palette(1 - SPOT * 1, [255, 255, 255, 0, 0, 0]),
    "red.png": coloured(SPOT * 1, [(0, 0, 0), (255, 0, 0)]), "navy.png": coloured(SPOT * 1, [(0, 0, 0), (0, 0, 60)]),
    "drawn.png": coloured(SPOT * 1, [(0, 0, 0, 0), (0, 0, 0, 255)]),
    "veil.png": coloured(SPOT * 1, [(0, 0, 0, 0), (255, 0, 0, 100)]), "deep.png": grey(SPOT * 1, [0, 65535], np.uint16),
    "id.png": grey(SPOT * 1, [0, 512], np.uint16), "id.tif": grey(SPOT * 1, [0, 70000], np.int32), "label.bmp": WHITE,
}  # fmt: skip
SEVERAL = {
    "numbers.png": grey(LABELS, [0, 1, 2]), "half.png": grey(LABELS, [0, 127, 255]),
    "fifty.png": grey(LABELS, [0, 50, 255]),
    "middle.png": grey(LABELS, [0, 128, 255]), "one.png": grey(LABELS, [0, 1, 255]),
    "near.png": grey(LABELS, [0, 254, 255]),
    "voc.png": palette(LABELS, [0, 0, 0, 128, 0, 0, 0, 128, 0]),
    "dark.png": palette(LABELS, [0, 0, 0, 9, 0, 0, 0, 9, 0]),
    "black.png": palette(LABELS, []), "greys.png": palette(LABELS, [0, 0, 0, 90, 90, 90, 255, 255, 255]),
    "colours.png": coloured(LABELS, [(0, 0, 0), (250, 50, 83), (51, 221, 255)]),
    "shades.png": coloured(LABELS, [(0, 0, 0), (100, 0, 0), (255, 0, 0)]),
    "strokes.png": coloured(LABELS, [(0, 0, 0, 0), (255, 0, 0, 255), (0, 0, 0, 255)]),
    "veils.png": coloured(LABELS, [(0, 0, 0, 0), (255, 0, 0, 255), (255, 0, 0, 60)]),
    "ids.png": grey(LABELS, [0, 256, 512], np.uint16), "ids.tif": grey(LABELS, [0, 70000, 140000], np.int32),
    "half.jpg": grey(LABELS, [0, 127, 255]), "fifty.jpg": grey(LABELS, [0, 60, 255]),
    "colours.jpg": coloured(LABELS, [(0, 0, 0), (250, 50, 83), (51, 221, 255)]),
    "whites.png": coloured(SPOT * 1, [(255, 255, 255), (255, 0, 0)]), "none.png": grey(SPOT * 1, [100, 200]),
}  # fmt: skip


@pytest.mark.parametrize("name", TWO_VALUED)
def test_two_values_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    TWO_VALUED[name].save(tmp_path / name)
    assert (read_mask(tmp_path / name) == SPOT).all()
    assert (read_mask(tmp_path / name, Reading(inverted=True)) == ~SPOT).all()


@pytest.mark.parametrize("name", SEVERAL)
def test_several_labels_are_refused_and_told(tmp_path: Path, name: str) -> None:
    SEVERAL[name].save(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: .*(\n.*){{1}}(--label|save)"):
        read_mask(tmp_path / name)
    assert not measure_mask(tmp_path / name).binary


def test_the_labels_found_are_listed(tmp_path: Path) -> None:
    for name, words in {
        "half.png": "several labels: 0, 127, 255",
        "voc.png": r"several labels: #000000, 1 \(#800000\), 2 \(#008000\)",
        "colours.png": "#33ddff, #fa3253",
        "strokes.png": "#000000, #ff0000",
        "whites.png": "#ff0000, #ffffff, no black background",
    }.items():
        SEVERAL[name].save(tmp_path / name)
        with pytest.raises(DataError, match=words):
            read_mask(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("numbers.png", "1"), ("half.png", "127"), ("voc.png", "1"), ("voc.png", "#800000"), ("black.png", "1"),
        ("colours.png", "#fa3253"), ("ids.png", "256"), ("ids.tif", "70000"), ("strokes.png", "#ff0000"),
        ("whites.png", "#ff0000"), ("greys.png", "1"),
    ],
)  # fmt: skip
def test_a_label_can_be_chosen(tmp_path: Path, name: str, label: str) -> None:
    SEVERAL[name].save(tmp_path / name)
    assert (read_mask(tmp_path / name, Reading(label=label)) == SPOT).all()


@pytest.mark.parametrize(
    "name", ["numbers.png", "voc.png", "colours.png", "ids.png", "strokes.png", "dark.png"]
)
def test_any_label_is_the_union(tmp_path: Path, name: str) -> None:
    SEVERAL[name].save(tmp_path / name)
    assert (read_mask(tmp_path / name, Reading(label="any")) == (SPOT | OTHER)).all()


def test_a_value_that_means_ignore_is_neither(tmp_path: Path) -> None:
    SEVERAL["one.png"].save(tmp_path / "m.png")
    assert (read_mask(tmp_path / "m.png", Reading(ignore="255")) == SPOT).all()
    palette(LABELS, [0, 0, 0, 128, 0, 0, 224, 224, 192]).save(tmp_path / "p.png")
    assert (read_mask(tmp_path / "p.png", Reading(ignore="2")) == SPOT).all()
    SEVERAL["colours.png"].save(tmp_path / "c.png")
    assert (read_mask(tmp_path / "c.png", Reading(ignore="#33ddff")) == SPOT).all()


def test_in_a_lossy_file_no_label_can_be_chosen(tmp_path: Path) -> None:
    SEVERAL["half.jpg"].save(tmp_path / "m.jpg")
    with pytest.raises(DataError, match=r"m\.jpg: labels can't be told in a lossy file"):
        read_mask(tmp_path / "m.jpg", Reading(label="127"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("label", "red"), ("ignore", "any"), ("bits", 3), ("drawn_on", "side"), ("label", "#12")],
)
def test_a_reading_that_means_nothing_is_refused(field: str, value: object) -> None:
    with pytest.raises(DataError, match=field):
        Reading(**{field: value})


def test_numbers_in_lossless_webp_are_exact(tmp_path: Path) -> None:
    Image.fromarray(SPOT.astype(np.uint8)).convert("RGB").save(tmp_path / "m.webp", lossless=True)
    assert (read_mask(tmp_path / "m.webp") == SPOT).all()


def test_a_mask_in_white_is_zero_is_inverted_at_16_bits(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", np.where(SPOT, 0, 65535).astype(np.uint16), photometric="miniswhite")
    assert (read_mask(tmp_path / "m.tif") == SPOT).all()


shapes = st.tuples(st.integers(0, 999), st.sampled_from(["disc", "ring", "line"]))


def drawn(seed: int, kind: str, size: int = 96) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    cy, cx, r = rng.uniform(25, 70), rng.uniform(25, 70), rng.uniform(6, 20)
    far = np.hypot(y - cy, x - cx)
    if kind == "disc":
        return far <= r
    if kind == "ring":
        return np.abs(far - r) <= 2
    angle = rng.uniform(0, np.pi)
    return np.abs((y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)) <= 1.5


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(60, 95))
def test_noise_of_jpeg_is_cut_at_half(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple, quality: int
) -> None:
    mask = drawn(*shape)
    path = tmp_path_factory.mktemp("m") / "m.jpg"
    Image.fromarray(mask.astype(np.uint8) * 255).save(path, quality=quality)
    found = read_mask(path)
    assert (found != mask).mean() < 0.02
    Image.open(path).save(path.with_suffix(".png"))  # the same noise in a lossless file
    assert (read_mask(path.with_suffix(".png")) != mask).mean() < 0.02


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(2, 5))
def test_soft_edges_are_cut_at_half(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple, factor: int
) -> None:
    mask = drawn(*shape)
    path = tmp_path_factory.mktemp("m") / "m.png"
    large = Image.fromarray(mask.astype(np.uint8) * 255).resize((96 * factor,) * 2, Image.Resampling.NEAREST)
    large.resize((96, 96), Image.Resampling.LANCZOS).save(path)
    assert (read_mask(path) != mask).mean() < 0.02


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 255), min_size=2, max_size=30, unique=True), st.integers(0, 99))
def test_label_maps_of_any_numbers_are_never_merged(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((120, 120), np.uint8)
    for number, label in enumerate(ids):
        y, x = divmod(number, 6)
        height, width = rng.integers(4, 18, 2)
        labels[20 * y : 20 * y + height, 20 * x : 20 * x + width] = label
    path = tmp_path_factory.mktemp("m") / "m.png"
    Image.fromarray(labels).save(path)
    with pytest.raises(DataError, match="several labels"):
        read_mask(path)
    assert (read_mask(path, Reading(label=str(ids[0]))) == (labels == ids[0])).all()
