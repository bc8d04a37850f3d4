"""Shapes of known size are measured as large as they are."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lerenet.measure.defects import measure
from lerenet.measure.extents import extents
from lerenet.measure.settings import Measuring
from lerenet.measure.skeleton import skeleton_length
from tests.helpers.shapes import bar, ellipse, ring

OFFSETS = [(0.013, 0.021), (0.31, 0.77)]  # no pixel lies on an edge
PIXEL = 1.0


def measured(mask: np.ndarray, **how: object) -> pd.Series:
    table = measure(mask.astype(np.uint8), mask.astype(np.float32), ["Dent"], Measuring(**how))
    assert len(table) == 1
    return table.iloc[0]


def turned(one: float, other: float) -> float:
    """Degrees between two directions of a line."""
    return abs((one - other + 90) % 180 - 90)


@pytest.mark.parametrize("middle", OFFSETS)
@pytest.mark.parametrize("degrees", range(0, 180, 5))
@pytest.mark.parametrize(("length", "width"), [(20, 4), (40, 3), (80, 12), (130, 20), (200, 6), (200, 30)])
def test_a_bar(length: int, width: int, degrees: int, middle: tuple[float, float]) -> None:
    found = measured(bar(length, width, degrees, middle))
    longest = math.hypot(length, width)  # from corner to corner
    assert abs(found["length_px"] - longest) <= PIXEL
    assert abs(found["width_px"] - width) <= PIXEL
    assert turned(found["orientation_deg"], degrees) <= 2
    # At 45 degrees pixels lie in lines 0.71 apart, of which a bar of any width holds a whole number.
    assert found["area_px"] == pytest.approx(length * width, rel=max(0.02, 0.71 / width + 0.71 / length))
    if length >= 4 * width:
        assert found["skeleton_px"] == pytest.approx(length, rel=0.03, abs=5)
        assert found["mean_width_px"] == pytest.approx(found["area_px"] / found["skeleton_px"])


@pytest.mark.parametrize("middle", OFFSETS)
@pytest.mark.parametrize("diameter", [10, 20, 40, 80, 160])
def test_a_disc(diameter: int, middle: tuple[float, float]) -> None:
    found = measured(ellipse(diameter, diameter, 0, middle))
    assert abs(found["length_px"] - diameter) <= PIXEL
    assert abs(found["width_px"] - diameter) <= PIXEL
    assert found["area_px"] == pytest.approx(math.pi * diameter**2 / 4, rel=0.02, abs=4)
    assert math.isnan(found["orientation_deg"])  # none
    assert math.isnan(found["skeleton_px"])
    assert found["solidity"] > 0.9


@pytest.mark.parametrize("degrees", range(0, 180, 15))
@pytest.mark.parametrize(("length", "width"), [(30, 15), (100, 20), (160, 80)])
def test_an_ellipse(length: int, width: int, degrees: int) -> None:
    found = measured(ellipse(length, width, degrees, OFFSETS[1]))
    assert abs(found["length_px"] - length) <= PIXEL
    assert abs(found["width_px"] - width) <= PIXEL
    assert found["area_px"] == pytest.approx(math.pi * length * width / 4, rel=0.02)
    assert turned(found["orientation_deg"], degrees) <= 2


@pytest.mark.parametrize("middle", OFFSETS)
@pytest.mark.parametrize(("outer", "inner"), [(40, 32), (100, 90), (150, 130)])
def test_a_ring_is_as_large_as_its_outside_and_as_long_as_its_middle(
    outer: int, inner: int, middle: tuple[float, float]
) -> None:
    found = measured(ring(outer, inner, middle))
    assert abs(found["length_px"] - outer) <= PIXEL
    assert abs(found["width_px"] - outer) <= PIXEL
    assert found["area_px"] == pytest.approx(math.pi * (outer**2 - inner**2) / 4, rel=0.02)
    assert found["skeleton_px"] == pytest.approx(math.pi * (outer + inner) / 2, rel=0.03)
    assert found["mean_width_px"] == pytest.approx((outer - inner) / 2, rel=0.05)
    assert found["solidity"] < 0.8


@pytest.mark.parametrize("length", [1, 2, 3, 20, 200])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_along_rows_and_columns_sizes_are_exact(length: int, width: int) -> None:
    mask = np.zeros((230, 230), bool)
    mask[7 : 7 + width, 9 : 9 + length] = True
    for shape in (mask, mask.T):
        long, wide = extents(shape)
        assert wide == min(length, width)
        assert long == pytest.approx(math.hypot(length - 1, width - 1) + 1)
    if width == 1:
        assert extents(mask)[0] == length


def test_a_bent_scratch_is_as_long_as_its_course() -> None:
    mask = ring(200, 192)
    mask[: len(mask) // 2] = False
    found = measured(mask)
    assert found["skeleton_px"] == pytest.approx(math.pi * 98, rel=0.03)
    assert found["mean_width_px"] == pytest.approx(4, rel=0.05)
    assert found["width_px"] > 90  # the smallest caliper holds the whole bend


def test_a_direction_turns_as_it_is_seen() -> None:
    """0: along the rows; then against the clock."""
    assert turned(measured(bar(40, 4, 0))["orientation_deg"], 0) < 0.5
    rising = np.fliplr(np.eye(30, dtype=bool))  # from lower left to upper right
    assert measured(rising)["orientation_deg"] == pytest.approx(45)
    assert measured(np.eye(30, dtype=bool))["orientation_deg"] == pytest.approx(135)
    assert measured(np.ones((30, 1), bool))["orientation_deg"] == pytest.approx(90)


masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@given(masks.filter(np.any))
@settings(deadline=None)
def test_sizes_do_not_depend_on_how_the_picture_lies(mask: np.ndarray) -> None:
    long, wide = extents(mask)
    assert 0 < wide <= long
    assert long <= math.hypot(*mask.shape)
    for other in (mask.T, mask[::-1], np.rot90(mask), np.pad(mask, 3)):
        assert extents(other) == pytest.approx((long, wide))
    length = skeleton_length(mask)
    assert math.isnan(length) or 0 < length <= 2 * mask.sum() + 2
