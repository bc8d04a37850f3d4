"""Thresholds: never more good parts called than was asked for, and nothing from too few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerenet.enrolment.decision import FEWEST, OperatingPoint, calibrate, surface_bound, verdict_of

scores = st.lists(st.floats(-2, 2), min_size=FEWEST, max_size=60)


@given(scores, st.floats(0, 1), st.floats(0, 1))
def test_no_more_good_parts_are_called_than_was_asked_for(
    values: list[float], calls: float, reviews: float
) -> None:
    point = calibrate(values, calls, reviews)
    assert point is not None
    verdicts = [point.verdict(value) for value in values]
    assert verdicts.count("NG") <= calls * len(values)
    assert len(verdicts) - verdicts.count("OK") <= max(calls, reviews) * len(values)
    assert point.review <= point.bad


@pytest.mark.parametrize("count", range(FEWEST))
def test_too_few_good_parts_calibrate_nothing(count: int) -> None:
    assert calibrate([0.1] * count, 0.02, 0.1) is None


def test_verdicts_are_in_order() -> None:
    point = OperatingPoint(review=0.1, bad=0.3, false_calls=0.02, parts=10)
    assert [point.verdict(score) for score in (0.1, 0.2, 0.3, 0.31)] == ["OK", "REVIEW", "REVIEW", "NG"]


@pytest.mark.parametrize("parts", [5, 10, 30, 49, 60, 100])
def test_few_good_parts_keep_the_share_that_was_asked_for_of_parts_to_come(parts: int) -> None:
    rng = np.random.default_rng(parts)
    for skewed in (True, False):
        called = []
        for _ in range(4000):
            drawn = rng.gumbel(0.2, 0.05, parts + 5) if skewed else rng.normal(0.2, 0.05, parts + 5)
            point = calibrate(drawn[:parts].tolist(), 0.02, 0.1)
            assert point is not None
            called.append(drawn[parts:] > point.bad)
        assert (
            np.mean(called) < 0.023
        )  # no more than was asked for, where scores are skewed as highest values are
        assert not skewed or np.mean(called) > 0.01


@given(scores)
def test_the_images_that_a_surface_is_known_by_are_of_it(values: list[float]) -> None:
    bound = surface_bound(values)
    assert bound is not None
    assert bound <= min(values)


def test_another_surface_is_neither_good_nor_bad() -> None:
    assert surface_bound([0.5] * (FEWEST - 1)) is None
    bound = surface_bound([0.5, 0.52, 0.55, 0.51, 0.53, 0.5])
    assert bound is not None
    assert 0.3 < bound < 0.5
    point = OperatingPoint(review=0.1, bad=0.3, false_calls=0.02, parts=10)
    assert verdict_of(point, bound, 9.0, 0.3) == "other surface"
    assert verdict_of(point, bound, 9.0, 0.5) == "NG"
    assert verdict_of(point, None, 9.0, 0.3) == "NG"
    assert verdict_of(None, bound, 9.0, 0.5) == "not calibrated"
