"""What the page does: uploads refused in words, photos inspected and cancelled, drafts, masks tried and handed in."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lerenet import layout
from lerenet.data.dataset import read_sources
from lerenet.data.encoding import write_mask
from lerenet.data.masks import read_marks, read_mask
from lerenet.data.sample import make_sample
from lerenet.data.scaling import IGNORED
from lerenet.errors import DataError
from lerenet.page.desk import Cancelled, Desk
from lerenet.page.photos import LARGEST, Photo
from tests.helpers.prediction import picture, truth


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path / "page", "matching", tmp_path / "enrolments")


def given(desk: Desk, seed: int, marked: bool = True) -> Photo:
    path = picture(desk.folder.parent / "in" / f"{seed}.png", seed)
    photo = desk.photos.take(path.name, path.read_bytes())
    if marked:
        desk.photos.keep(photo, read_mask(truth(path)))
    return photo


def drawing(photo: Photo, where: tuple[slice, slice]) -> bytes:
    layer = np.zeros((photo.shown[1], photo.shown[0], 4), np.uint8)
    layer[where] = (255, 64, 64, 255)
    out = io.BytesIO()
    Image.fromarray(layer).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.png", b"not a picture", "a.png"),
        ("<img src=x onerror=alert(1)>.png", b"x", "onerror"),
        ("a.svg", b"<svg onload='alert(1)'/>", "SVG is not read"),
        ("run.sh", b"#!/bin/sh\nrm -rf /", "no photo"),
        ("../../etc/passwd.png", b"", "passwd.png"),
        ("a.png", b"x" * (LARGEST + 1), "over 64 MB"),
    ],
)
def test_what_is_no_photo_is_refused_in_words(desk: Desk, name: str, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        desk.photos.take(name, content)
    assert str(desk.folder) not in str(error.value)
    assert not [path for path in desk.folder.rglob("*") if path.is_file()]


def test_a_large_photo_is_drawn_on_smaller_and_marked_in_its_own_size(desk: Desk) -> None:
    out = io.BytesIO()
    Image.new("RGB", (4800, 3000), "grey").save(out, "JPEG")
    photo = desk.photos.take("large.jpg", out.getvalue())
    assert photo.shown == (2400, 1500)
    path = desk.photos.draw(photo, drawing(photo, np.s_[100:200, 50:150]))
    mask = read_mask(path)
    assert mask.shape == (3000, 4800)
    assert mask.sum() == 4 * 100 * 100
    with pytest.raises(DataError, match="can't be read"):
        desk.photos.draw(photo, b"x")
    assert desk.photos.mask(photo) is not None
    desk.photos.draw(photo, drawing(photo, np.s_[0:0, 0:0]))
    assert desk.photos.mask(photo) is None  # all undone


def test_drawings_that_come_at_once_leave_a_whole_one(desk: Desk) -> None:
    photo = given(desk, 3)
    parts = [drawing(photo, np.s_[:10, : 5 + i]) for i in range(8)]
    threads = [threading.Thread(target=desk.photos.draw, args=(photo, part)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    path = desk.photos.mask(photo)
    assert path is not None
    assert read_mask(path).sum() in {10 * (5 + i) for i in range(8)}


def test_a_drawing_is_tried_on_other_photos(desk: Desk) -> None:
    photos = [given(desk, seed) for seed in range(3)]
    path = desk.photos.mask(photos[0])
    assert path is not None
    marks = desk.tried(photos[0], read_mask(path), photos[1:])
    assert len(marks) == 2
    for photo, marked in zip(photos[1:], marks, strict=True):
        own = desk.photos.mask(photo)
        assert own is not None
        size = (marked.shape[1], marked.shape[0])
        true = np.asarray(Image.open(own).resize(size, Image.Resampling.NEAREST)) > 0
        assert (marked & true).sum() / (marked | true).sum() > 0.3


def test_a_draft_is_enrolled_inspected_with_and_cancelled(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no class is known yet"):
        desk.inspector()
    marked = [given(desk, seed) for seed in range(4)]
    bare = given(desk, 9, marked=False)
    with pytest.raises(DataError, match=r"9\.png: nothing is marked"):
        desk.draft("Blob", [*marked, bare], [])
    desk.draft("Blob", marked, [])
    assert desk.curve_of("Blob").startswith("<svg")
    photos = [given(desk, 20 + seed, marked=False) for seed in range(3)]
    stopped = threading.Event()
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if done == 2:
            stopped.set()

    with pytest.raises(Cancelled, match="2 of 3"):
        desk.inspect(photos, tmp_path / "found", tick, stopped)
    stopped.clear()
    rows = desk.inspect(photos, tmp_path / "found", lambda done: None, stopped)
    assert [row.error for row in rows] == [""] * 3
    assert (tmp_path / "found" / "defects.csv").exists()
    assert (tmp_path / "found" / "annotations_coco.json").exists()
    found = desk.calibration("Blob")
    assert found is not None
    assert found.at(-np.inf) == (0, len(found.defects))


def test_a_corrected_mask_lands_in_the_data(desk: Desk) -> None:
    make_sample(layout.DATA, defect=3, clean=2, classes=3)
    cls = desk.corrections.data_classes()[0]
    photo = given(desk, 3)
    name = desk.corrections.hand_in(photo, cls, good=False, group="p1", by="Ada")
    assert read_sources(layout.DATA)[name]["source_path"] == "3.png"
    with pytest.raises(DataError, match="nothing is marked"):
        desk.corrections.hand_in(given(desk, 5, marked=False), cls, good=False, group="", by="Ada")
    assert desk.corrections.hand_in(photo, cls, good=True, group="", by="Ada") == name.replace("Images", "Nd")


def test_what_another_inspector_saved_is_not_replaced_unseen(desk: Desk) -> None:
    make_sample(layout.DATA, defect=3, clean=2, classes=3)
    cls = desk.corrections.data_classes()[0]
    mine, hers = given(desk, 3), given(desk, 3)
    name = desk.corrections.hand_in(hers, cls, good=False, group="p1", by="Ada")
    with pytest.raises(DataError, match=rf"3\.png: Ada saved it for {cls} meanwhile.*\n.*save once more"):
        desk.corrections.hand_in(mine, cls, good=True, group="p1", by="Bo")
    assert read_sources(layout.DATA)[name]["provenance"].startswith("added by Ada")
    assert desk.corrections.hand_in(mine, cls, good=True, group="p1", by="Bo") == name.replace("Images", "Nd")
    with pytest.raises(DataError, match="Bo saved it"):  # now it is Ada who has not seen
        desk.corrections.hand_in(hers, cls, good=False, group="p1", by="Ada")
    later = given(desk, 3)
    assert desk.corrections.hand_in(later, cls, good=False, group="p1", by="Cy") == name
    assert desk.corrections.hand_in(later, cls, good=False, group="p1", by="Cy") == name


def test_a_photo_of_the_data_begins_with_the_mask_it_has_and_keeps_what_is_ignored(desk: Desk) -> None:
    make_sample(layout.DATA, defect=3, clean=2, classes=3)
    cls, other = desk.corrections.data_classes()[:2]
    source = sorted((layout.DATA / cls / "Images").iterdir())[0]
    truth = layout.DATA / cls / "GT" / f"{source.stem}.png"
    marks = read_marks(truth)
    marks[:9, :9] = IGNORED
    marks[20:30, 20:30] = 1
    write_mask(truth, marks)
    photo = desk.photos.take("again.jpg", source.read_bytes())
    assert desk.corrections.begin(photo, other) == (
        cls, f"in the data already: {cls} (marked); saving replaces what its class has",
    )  # fmt: skip
    begun = desk.photos.mask(photo)
    assert begun is not None
    assert np.array_equal(read_marks(begun), marks > 0)
    drawn = np.zeros(photo.shown[::-1], bool)
    drawn[5:40, 5:40] = True
    desk.photos.draw(photo, drawing(photo, np.s_[5:40, 5:40]))
    assert desk.corrections.begin(photo, cls)[0] == cls
    assert (
        desk.corrections.hand_in(photo, cls, good=False, group="", by="Ada") == f"{cls}/Images/{source.name}"
    )
    corrected = read_marks(truth)
    assert np.array_equal(corrected > 0, drawn)  # what was drawn stands, on ignored pixels too
    assert np.array_equal(corrected == IGNORED, (marks == IGNORED) & ~drawn)


def test_a_photo_that_the_data_do_not_have_begins_blank(desk: Desk) -> None:
    make_sample(layout.DATA, defect=3, clean=2, classes=3)
    photo = given(desk, 3, marked=False)
    assert desk.corrections.begin(photo, "asked") == ("asked", "")
    assert desk.photos.mask(photo) is None
