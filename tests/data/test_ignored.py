"""Pixels to ignore: read from what tools write, kept through scaling and squares, and counted nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from torch.nn import functional as F

from lerenet.data.augment import augment, load_plain
from lerenet.data.cataloguing import build_catalog
from lerenet.data.encoding import write_mask
from lerenet.data.masks import measure_mask, read_marks, read_mask
from lerenet.data.pairs import read_marked
from lerenet.data.reading import Reading
from lerenet.data.scaling import IGNORED, VOID_COLOUR, Marks, resize_marks
from lerenet.data.tiles import tiling
from lerenet.errors import DataError
from lerenet.evaluation.score import confusion
from lerenet.models.losses import LOSSES, bce, dice
from lerenet.params import ViewSettings
from tests.helpers.factories import tiny_dataset

MARKS = np.zeros((40, 48), np.int8)
MARKS[8:20, 8:20] = 1
MARKS[24:36, 20:44] = IGNORED

states = arrays(
    np.int8, st.tuples(st.integers(2, 20), st.integers(2, 20)), elements=st.sampled_from([-1, 0, 1])
)


def colours(*three: tuple[int, int, int]) -> np.ndarray:
    """`MARKS` in colours of background, defect and what is to be ignored."""
    return np.array(three, np.uint8)[MARKS]


def palette(path: Path, void: int, colour: tuple[int, int, int]) -> Path:
    image = Image.frombytes(
        "P", MARKS.shape[::-1], np.where(MARKS < 0, void, MARKS).astype(np.uint8).tobytes()
    )
    table = np.zeros((256, 3), np.uint8)
    table[1], table[void] = (128, 0, 0), colour
    image.putpalette(table.ravel().tolist())
    image.save(path)
    return path


@given(states.filter(lambda marks: bool((marks == 0).any())))  # a mask has a background
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, marks: Marks) -> None:
    path = tmp_path_factory.mktemp("m") / "m.png"
    write_mask(path, marks)
    assert (read_marks(path) == marks).all()
    assert measure_mask(path).foreground == pytest.approx(float((marks > 0).mean()))


@pytest.mark.parametrize(
    ("kind", "reading"),
    [
        ("voc", Reading()),
        ("palette", Reading(ignore="7")),
        ("palette", Reading(ignore="#010203")),
        ("grey", Reading(ignore="128")),
        ("grey", Reading(ignore="#808080")),
        ("colours", Reading(ignore="#00ff00")),
        ("labels", Reading(label="#ff0000", ignore="#00ff00")),
        ("strokes", Reading(ignore="#00ff00")),
    ],
)
def test_the_label_to_ignore_is_neither_defect_nor_background(
    kind: str, reading: Reading, tmp_path: Path
) -> None:
    path = tmp_path / "m.png"
    if kind == "voc":
        palette(path, 255, VOID_COLOUR)
    elif kind == "palette":
        palette(path, 7, (1, 2, 3))
    elif kind == "grey":
        Image.fromarray(np.array([0, 255, 128], np.uint8)[MARKS]).save(path)
    else:
        drawn = colours((0, 0, 0), (255, 0, 0), (0, 255, 0))
        drawn = np.dstack([drawn, (MARKS != 0) * np.uint8(255)]) if kind == "strokes" else drawn
        Image.fromarray(drawn).save(path)
    assert (read_marks(path, reading) == MARKS).all()
    assert (read_mask(path, reading) == (MARKS > 0)).all()


def test_of_an_inverted_mask_they_stay_ignored(tmp_path: Path) -> None:
    Image.fromarray(np.array([255, 0, 128], np.uint8)[MARKS]).save(tmp_path / "m.png")
    assert (read_marks(tmp_path / "m.png", Reading(ignore="128", inverted=True)) == MARKS).all()


def test_a_palette_that_is_not_vocs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="several labels"):
        read_mask(palette(tmp_path / "m.png", 255, (1, 2, 3)))


def test_of_several_masks_what_one_marks_is_marked(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*MARKS.shape, 3), np.uint8)).save(
        tmp_path / "i.png"
    )
    write_mask(tmp_path / "a.png", MARKS)
    write_mask(tmp_path / "b.png", MARKS == IGNORED)
    _, marks = read_marked(tmp_path / "i.png", [tmp_path / "a.png", tmp_path / "b.png"])
    assert (marks == (MARKS != 0)).all()


@given(states, st.integers(1, 30), st.integers(1, 30))
def test_scaled_they_never_cover_a_defect(marks: Marks, height: int, width: int) -> None:
    sized = resize_marks(marks, (height, width))
    assert (sized > 0).any() == (marks > 0).any()
    assert not (sized == IGNORED).any() or (marks == IGNORED).any()
    assert (resize_marks(marks, marks.shape) == marks).all()


def test_squares_and_views_hold_them() -> None:
    how = tiling(40, 48, 20, 20)
    squares = how.cut(how.fitted_marks(MARKS))
    assert (how.joined(torch.from_numpy(np.stack(squares))).numpy() == MARKS).all()
    picture = np.zeros((*MARKS.shape, 3), np.uint8)
    still = ViewSettings(rotation=0, scale=0, flip=1, blur=0)
    assert (augment(picture, MARKS, still, (0,))[1] == MARKS[:, ::-1]).all()


def test_the_data_folder_gives_them(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", classes=3, defect=2, clean=0, size=32)
    row = build_catalog(data, tmp_path / "c.parquet").query("kind == 'defect'").iloc[0]
    before = read_marks(data / row["mask"])
    marks = before.copy()
    marks[-4:] = IGNORED
    write_mask(data / row["mask"], marks)
    row = build_catalog(data, tmp_path / "c.parquet").query("image == @row.image").iloc[0]
    assert (load_plain(data, row, marks.shape[0])[1][-4:] == IGNORED).all()


@given(states.filter(lambda marks: bool((marks >= 0).any())), st.integers(0, 99))
def test_no_loss_knows_them(marks: Marks, seed: int) -> None:
    torch.manual_seed(seed)
    truth = torch.from_numpy(marks)[None].float()
    logits = torch.randn(truth.shape, requires_grad=True)
    kept, true = logits[truth >= 0], truth[truth >= 0]
    chance = kept.sigmoid()
    torch.testing.assert_close(bce(logits, truth), F.binary_cross_entropy_with_logits(kept, true))
    soft = 1 - (2 * (chance * true).sum() + 1) / ((chance + true).sum() + 1)
    torch.testing.assert_close(dice(logits, truth), soft)
    for loss in LOSSES.values():
        (gradient,) = torch.autograd.grad(loss(logits, truth), logits)
        assert not gradient[truth < 0].any()
        torch.testing.assert_close(loss(logits, truth), loss(torch.where(truth < 0, 9.0, logits), truth))


@given(states)
def test_no_count_knows_them(marks: Marks) -> None:
    truth = torch.from_numpy(marks)[None]
    found = torch.rand(truth.shape) > 0.5
    tp, fp, fn, tn = confusion(found, truth)[0].tolist()
    assert tp + fn == int((truth > 0).sum())
    assert fp + tn == int((truth == 0).sum())
    assert tp + fp == int(found[truth >= 0].sum())
