"""Pixels to ignore, in an enrolment: they are no surroundings, teach nothing, and no score counts them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lerenet.data.scaling import IGNORED
from lerenet.enrolment.enrol import remembered
from lerenet.enrolment.leave_out import readings
from lerenet.enrolment.material import Material
from lerenet.enrolment.readers import READERS, Known
from lerenet.params import EnrolmentSettings
from tests.helpers.enrolment import SIZE, material_like, wide_material

GROUPS, DEFECT = ["a", "b", "c", "d"], [True, True, True, False]
BAND = slice(0, 10)  # rows that are to be ignored, as far as they are no defect


def with_band(material: Material) -> Material:
    """The same with `BAND` of the first image to be ignored."""
    marks = [one.clone() for one in material.marks]
    band = marks[0][BAND]
    band[band == 0] = IGNORED
    return replace(material, marks=marks)


def test_its_places_are_no_background() -> None:
    plain = material_like(GROUPS, DEFECT)
    banded = with_band(plain)
    shares = banded.shares([0])[0].unflatten(0, (25, 25))
    defect = plain.shares([0])[0].unflatten(0, (25, 25)) > 0.5
    assert ((shares[:5] < 0) == ~defect[:5]).all()
    assert (shares[5:] >= 0).all()
    before, after = (remembered(one, EnrolmentSettings()) for one in (plain, banded))
    lost = int((before.background_from == 0).sum() - (after.background_from == 0).sum())
    assert lost > 0 or len(before.background) == EnrolmentSettings().budget
    assert torch.equal(before.foreground, after.foreground)
    targets = banded.targets([0])[0]
    assert (targets[: 2 * BAND.stop] < 0).any()
    assert (targets[2 * BAND.stop :] >= 0).all()


def test_nothing_in_it_is_counted() -> None:
    for make in (material_like, wide_material):
        plain = make(GROUPS, DEFECT)
        banded = with_band(plain)
        known = Known(remembered(plain, EnrolmentSettings()))
        one, two = (readings(some, known, np.array([0]), 0, READERS[:1]).iloc[0] for some in (plain, banded))
        ignored = int((banded.marks[0] == IGNORED).sum())
        unit = SIZE**2 / plain.marks[0].numel()
        counts = ["tp", "fp", "fn", "tn"]
        assert sum(one[counts]) - sum(two[counts]) == ignored * unit
        assert (one["tp"], one["fn"]) == (two["tp"], two["fn"])
        assert two["fp"] <= one["fp"]
        assert two["score"] <= one["score"] + 1e-6


def test_what_is_odd_there_does_not_call_a_picture() -> None:
    plain = material_like(GROUPS, DEFECT)
    known = Known(remembered(plain, EnrolmentSettings()))
    odd = replace(plain, descriptors=plain.descriptors.clone())
    grid = odd.descriptors[3].unflatten(1, (25, 25))
    grid[0, :5] += 3  # the good part shows something like a defect in the band
    marks = [one.clone() for one in odd.marks]
    marks[3][BAND] = IGNORED
    scores = [
        readings(some, known, np.array([3]), 0, READERS[:1]).iloc[0]["score"]
        for some in (plain, odd, replace(odd, marks=marks))
    ]
    assert scores[1] > scores[0]
    assert scores[2] < scores[1]
