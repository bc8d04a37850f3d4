"""At what scale a class is worked on: a finer one only where it is surely better."""

from __future__ import annotations

from dataclasses import replace

import torch

from lerenet.enrolment.scale import GOOD, TRIED, chosen_side, sides_of, tried
from lerenet.params import EnrolmentSettings
from tests.helpers.enrolment import SIZE, material_like, wide_material

GROUPS = [f"g{place}" for place in range(10)]
DEFECT = [True] * 10
SETTINGS = EnrolmentSettings(steps=0, shared=0)
SHAPES = [(50, 100)] * 10


def test_scales_that_come_into_question() -> None:
    assert sides_of([(500, 1260)] * 3, 200) == [0, 500, 250]
    assert sides_of([(512, 512)] * 3, 200) == [0, 256]
    assert sides_of([(250, 380)] * 3, 200) == [0, 250]
    assert sides_of([(200, 210)] * 3, 200) == [0]
    assert sides_of([(100, 400)] * 3, 200) == [0]  # none magnifies


def test_a_finer_scale_is_taken_where_it_is_surely_better() -> None:
    seen = wide_material(GROUPS, DEFECT)
    blind = replace(seen, descriptors=torch.randn_like(seen.descriptors.float()).half())
    assert chosen_side({0: blind, SIZE: seen}, SHAPES, SETTINGS) == SIZE
    assert chosen_side({0: seen, SIZE: blind}, SHAPES, SETTINGS) == 0
    assert chosen_side({0: seen, SIZE: seen}, SHAPES, SETTINGS) == 0


def test_one_part_has_nothing_to_compare_and_goes_by_its_shape() -> None:
    one = material_like(["a", "a"], [True, True])
    assert chosen_side({0: one, 50: one}, SHAPES, SETTINGS) == 50
    assert chosen_side({0: one, 50: one}, [(50, 50)], SETTINGS) == 0


def test_images_of_each_group_are_tried() -> None:
    groups = [f"g{place % 30}" for place in range(90)]
    defect = [place % 3 > 0 for place in range(90)]
    chosen = tried(groups, defect, 0)
    marked = [place for place in chosen if defect[place]]
    assert (len(marked), len(chosen)) == (TRIED, TRIED + GOOD)
    assert len({groups[place] for place in marked}) == TRIED
    assert chosen == tried(groups, defect, 0)
