"""Pictures of several squares: each square is an image's, and one that is not suspicious marks nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lerenet.enrolment.curve import curve
from lerenet.enrolment.enrol import learn, remembered
from lerenet.enrolment.enrolled import WHOLE, Image
from lerenet.enrolment.leave_out import held_out, readings, without
from lerenet.enrolment.material import Material
from lerenet.enrolment.quiet import quieted
from lerenet.enrolment.readers import READERS, Known
from lerenet.params import EnrolmentSettings
from tests.helpers.enrolment import SIZE, material_like, wide_material

GROUPS = [f"g{place}" for place in range(14)]
DEFECT = [True] * 8 + [False] * 6
SETTINGS = EnrolmentSettings(steps=0, shared=0, curve=(1, 2))


def parts_of(material: Material) -> dict[int, tuple[Known, np.ndarray]]:
    memory = remembered(material, SETTINGS)
    return {
        fold: (Known(without(memory, material, kept)), asked)
        for fold, (kept, asked) in held_out(material, SETTINGS.folds).items()
    }


def test_a_memory_names_images_not_squares() -> None:
    material = wide_material(GROUPS, DEFECT)
    memory = remembered(material, SETTINGS)
    assert memory.sums.shape[0] == memory.counts.shape[0] == sum(DEFECT)
    assert (memory.counts == 2 * material.descriptors.shape[2]).all()
    assert memory.foreground_from.max() < sum(DEFECT)
    assert memory.good_from.max() < len(DEFECT) - sum(DEFECT)
    torch.testing.assert_close(
        memory.sums[3], material.descriptors[[6, 7]].float().sum((0, 2)), rtol=1e-3, atol=0.1
    )


def test_squares_apart_are_examples_where_they_are_marked() -> None:
    material = wide_material(GROUPS, DEFECT)
    squares = material.apart(material.squares(range(len(GROUPS))))
    assert squares.defect.tolist() == [bad and not right for bad in DEFECT for right in (False, True)]
    assert squares.groups.tolist() == [group for group in GROUPS for _ in range(2)]
    assert all(marks.shape == (SIZE, SIZE) for marks in squares.marks)


def test_quiet_squares_mark_nothing_and_defects_stay_marked() -> None:
    material = wide_material(GROUPS, DEFECT)
    parts = parts_of(material)
    hushed, bound = quieted(material, parts, 0.02, 0.1)
    assert math.isfinite(bound)
    sums = []
    for some in (parts, hushed):
        rows = [readings(material, known, asked, fold, READERS[:2]) for fold, (known, asked) in some.items()]
        bad = [table[table["defect"] & (table["reader"] == "matching")] for table in rows]
        sums.append({name: sum(table[name].sum() for table in bad) for name in ("tp", "fp", "fn", "tn")})
    before, after = sums
    assert after["fp"] < 0.6 * before["fp"]
    assert after["tp"] > 0.9 * before["tp"]
    assert sum(after.values()) == pytest.approx(sum(DEFECT) * SIZE**2)  # each picture counts as one square


def test_pictures_of_one_square_are_never_quiet() -> None:
    material = material_like(GROUPS, DEFECT)
    parts = parts_of(material)
    same, bound = quieted(material, parts, 0.02, 0.1)
    assert same is parts
    assert bound == -math.inf


def test_a_class_keeps_what_its_squares_must_exceed() -> None:
    material = wide_material(GROUPS, DEFECT)
    images = [Image(group, "0" * 64, group) for group in GROUPS]
    enrolled, left = learn("Blob", material, images, "n", SETTINGS, side=SIZE)
    assert set(enrolled.quiet) == {WHOLE, *map(str, held_out(material, SETTINGS.folds))}
    assert all(map(math.isfinite, enrolled.quiet.values()))
    assert enrolled.side == SIZE
    assert set(left.curve["examples"]) == {1, 2}
    assert len(curve(material, SETTINGS, 0)) == len(left.curve)
