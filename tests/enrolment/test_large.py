"""Pictures that are larger than those of their class: at its scale, within a region, by another camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lerenet.data.tiles import tiling
from lerenet.enrolment.enrol import Given, enrol_class
from lerenet.enrolment.inspect import Inspector
from lerenet.enrolment.readers import PIXELS, Read
from lerenet.models.serialization import LoadedNetwork
from lerenet.params import EnrolmentSettings
from tests.helpers.factories import texture
from tests.helpers.prediction import picture, pixels, truth

pytestmark = pytest.mark.usefixtures("prepared_for_classes")

FAST = EnrolmentSettings(steps=0, curve=(), budget=300)
SIDE = 60
TOP, LEFT = 120, 240  # of the defect's part in the large picture


def ground(seed: int, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(texture(np.random.default_rng(seed), 1, 96)).resize(size)


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory, loaded: LoadedNetwork) -> Inspector:
    folder = tmp_path_factory.mktemp("given")
    marked = [picture(folder / "in" / f"{seed}.png", seed) for seed in range(7)]
    good = [folder / f"g{seed}.png" for seed in range(8)]
    for seed, path in enumerate(good):
        ground(50 + seed, (80, 60)).save(path)
    enrolled = enrol_class(
        "Blob", Given([(path, [truth(path)]) for path in marked], good), loaded, folder / "out", FAST
    )
    assert enrolled.side == SIDE  # four by three: cut by their shape
    return Inspector(loaded, [enrolled])


@pytest.fixture
def large(tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """480 x 240, one part of which has a defect of about 1 % of the whole; with its mask."""
    whole = Image.new("RGB", (480, 240))
    for number in range(24):
        whole.paste(ground(200 + number, (80, 60)), (80 * (number % 6), 60 * (number // 6)))
    bad = picture(tmp_path / "bad.png", 30)
    whole.paste(Image.open(bad), (LEFT, TOP))
    mask = np.zeros((240, 480), bool)
    mask[TOP : TOP + 60, LEFT : LEFT + 80] = pixels(truth(bad)) > 0
    return np.asarray(whole), mask


def test_a_small_defect_of_a_large_picture_is_found(
    inspector: Inspector, large: tuple[np.ndarray, np.ndarray]
) -> None:
    picture, mask = large
    found = inspector(picture)
    assert found.verdict in ("REVIEW", "NG")
    assert found.marks.shape == found.probability.shape == mask.shape
    marked = found.marks > 0
    assert (marked & mask).sum() / mask.sum() > 0.5
    around = np.s_[TOP - 40 : TOP + 100, LEFT - 40 : LEFT + 120]
    assert marked[around].sum() > 0.5 * marked.sum()


def test_what_lies_outside_the_region_is_neither_marked_nor_suspected(
    inspector: Inspector, large: tuple[np.ndarray, np.ndarray]
) -> None:
    picture, mask = large
    left = np.zeros_like(mask)
    left[:, :160] = True
    found, whole = inspector(picture, mark_good=True, within=left), inspector(picture, mark_good=True)
    assert found.classes[0].score < whole.classes[0].score
    assert not (found.marks[~left] > 0).any()
    assert (found.probability[~left] == 0).all()
    everywhere = inspector(picture, mark_good=True, within=np.ones_like(mask))
    assert everywhere.classes == whole.classes
    np.testing.assert_array_equal(everywhere.marks, whole.marks)


def test_what_is_outside_the_region_says_nothing_of_the_surface() -> None:
    places = torch.zeros(2, 625)
    alike = places.clone().unflatten(1, (25, 25))
    alike[:, :, 10:20] = 1.0
    read = Read(places, places, alike.flatten(1))
    region = torch.zeros(2, PIXELS, PIXELS, dtype=torch.bool)
    region[:, :, 80:160] = True
    assert read.likeness() == pytest.approx(0.4)
    assert read.likeness(region) == pytest.approx(1.0)


def test_a_finer_camera_says_so(inspector: Inspector, large: tuple[np.ndarray, np.ndarray]) -> None:
    picture, _ = large
    double = np.asarray(Image.fromarray(picture).resize((960, 480), Image.Resampling.BICUBIC))
    one, two = inspector(picture), inspector(double, scale=2.0)
    assert tiling(240, 480, SIDE, 96).corners == tiling(480, 960, 2 * SIDE, 96).corners
    assert two.classes[0].score == pytest.approx(one.classes[0].score, abs=1.5)
    small = two.marks[::2, ::2] > 0
    both, any_ = (small & (one.marks > 0)).sum(), (small | (one.marks > 0)).sum()
    assert both / any_ > 0.7
