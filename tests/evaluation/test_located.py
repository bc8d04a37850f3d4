"""Whether marks lie where the defects are: never surer than chance allows, and sure from few parts where they do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lerenet.evaluation.located import chance_of_fit, chance_of_hits
from lerenet.evaluation.metrics import COUNTS


def rows(hits: list[int], group: list[str] | None = None) -> pd.DataFrame:
    """Images of 10,000 pixels, 100 of them marked, 100 defect, so many of these hit."""
    table = [(tp, 100 - tp, 100 - tp, 10_000 - 200 + tp) for tp in hits]
    return pd.DataFrame(table, columns=COUNTS).assign(group=group or [str(i) for i in range(len(hits))])


@pytest.mark.parametrize("share", [0.05, 0.00625], ids=["5 %", "0.6 %"])
def test_marks_at_random_places_are_sure_no_more_often_than_said(share: float) -> None:
    rng = np.random.default_rng(0)
    square = np.zeros((64, 64), bool)
    square[:16, :16] = True
    sure = 0
    for _ in range(2_000):
        table = []
        for part in range(4):
            marks = np.roll(square, rng.integers(64, size=2), (0, 1))
            tp = int((marks & square).sum())
            table.append((tp, 256 - tp, 256 - tp, 4096 - 512 + tp, part))
        sure += chance_of_hits(pd.DataFrame(table, columns=[*COUNTS, "group"])) <= share
    assert sure / 2_000 <= share


def test_it_is_what_the_bets_come_to() -> None:
    # expected: 1 pixel of 100 marks and 100 defect pixels in 10,000
    assert chance_of_hits(rows([50])) == pytest.approx(1 / 25.5)
    assert chance_of_hits(rows([50, 20])) == pytest.approx(1 / (25.5 * 10.5))
    assert chance_of_hits(rows([50, 20], ["one", "one"])) == pytest.approx(1 / 18)
    assert chance_of_hits(rows([50, 0])) == pytest.approx(1 / (25.5 * 0.5))


def test_nothing_marked_says_nothing() -> None:
    assert chance_of_hits(rows([0, 0]).assign(fp=0)) == 1.0


def test_masks_that_belong_fit_better_than_dealt_out_and_swapped_or_shifted_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((8, 40, 40), bool)
    for mask in masks:
        top, left = rng.integers(0, 30, 2)
        mask[top : top + 8, left : left + 8] = True
    marks = masks & (rng.random(masks.shape) < 0.3)  # little of each is found
    parts = np.array([f"part {place}" for place in range(8)])
    assert chance_of_fit(marks, masks, parts, draws=2000) <= 0.001
    assert chance_of_fit(marks, np.roll(masks, 1, 0), parts, draws=2000) > 0.05
    assert chance_of_fit(marks, np.roll(masks, (10, 10), (1, 2)), parts, draws=2000) > 0.05
    assert chance_of_fit(marks & False, masks, parts, draws=100) == 1.0
    assert 0.02 < chance_of_fit(marks[:4], masks[:4], parts[:4], draws=2000) < 0.06  # one of 24


def test_images_of_one_part_count_as_one() -> None:
    masks = np.zeros((8, 20, 20), bool)
    masks[:4, :5], masks[4:, 10:15] = True, True
    parts = np.array(["a"] * 4 + ["b"] * 4)
    assert chance_of_fit(masks, masks, parts, draws=2000) == pytest.approx(
        0.5, abs=0.05
    )  # two parts tell nothing
