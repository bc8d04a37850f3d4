"""Panels: the stated rule that picks episodes, and what a picture shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerenet.panels import FALSE, FOUND, MISSED, OPACITY, RANKS, choose_episodes, draw_panel


def rows(ious: list[float], cls: str = "tile", **over: Any) -> pd.DataFrame:
    table = pd.DataFrame({"episode": range(len(ious)), "cls": cls, "iou": ious})
    return table.assign(**{"protocol": "groups", "kind": "defect", "shots": 1, **over})


def picked(counts: pd.DataFrame) -> list[int]:
    return [int(episode) for episode in choose_episodes(counts)["episode"]]


def test_best_median_and_worst_of_each_class_in_that_order() -> None:
    table = pd.concat([rows([0.2, 0.9, 0.5], "b"), rows([0.7, 0.1, 0.3], "a").assign(episode=[10, 11, 12])])
    chosen = choose_episodes(table)
    assert list(zip(chosen["cls"], chosen["rank"], chosen["episode"], strict=True)) == [
        ("a", "best", 10),
        ("a", "median", 12),
        ("a", "worst", 11),
        ("b", "best", 1),
        ("b", "median", 2),
        ("b", "worst", 0),
    ]


def test_ties_go_to_the_smaller_episode_number() -> None:
    assert picked(rows([0.5, 0.5, 0.5, 0.5])) == [0, 1, 0]


@pytest.mark.parametrize("other", [{"protocol": "paper"}, {"kind": "clean"}, {"shots": 5}])
def test_only_one_shot_defect_episodes_of_protocol_groups_count(other: dict[str, Any]) -> None:
    better = rows([1.0], **other).assign(episode=99)
    assert 99 not in picked(pd.concat([rows([0.1, 0.2, 0.3]), better]))


def test_no_episode_no_panel() -> None:
    assert choose_episodes(rows([])).empty
    assert "rank" in choose_episodes(rows([]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_the_rows(ious: list[float], random: Any) -> None:
    table = rows(ious)
    order = list(range(len(ious)))
    random.shuffle(order)
    assert picked(table) == picked(table.iloc[order])
    best, median, worst = (ious[place] for place in picked(table))
    assert worst <= median <= best
    assert best == max(ious)
    assert worst == min(ious)
    assert len(RANKS) == 3


def panel(truth: Any, prediction: Any, title: str = "tile, best") -> Any:
    picture = np.full((20, 20, 3), 128, np.uint8)
    return draw_panel(picture, np.zeros((20, 20), bool), picture, truth, prediction, title)


def shown(image: Any, colour: tuple[int, int, int]) -> bool:
    tint = np.rint((1 - OPACITY) * 128 + OPACITY * np.array(colour)).astype(np.uint8)
    return bool((image == tint).all(axis=2).any())


def test_each_outcome_has_its_colour() -> None:
    truth, prediction = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    truth[:, :10], prediction[:10] = True, True
    image = panel(truth, prediction)
    assert image.dtype == np.uint8
    assert [shown(image, colour) for colour in (FOUND, FALSE, MISSED)] == [True, True, True]
    right = panel(truth, truth)
    assert [shown(right, colour) for colour in (FOUND, FALSE, MISSED)] == [True, False, False]


def test_without_a_truth_the_marked_pixels_are_tinted_and_nothing_is_called_false() -> None:
    image = panel(None, np.eye(20, dtype=bool))
    assert shown(image, FOUND)
    assert not shown(image, FALSE)


def test_pictures_of_any_size_and_long_titles_give_panels_of_one_size() -> None:
    thin = np.zeros((400, 7, 3), np.uint8)
    mask = np.ones((400, 7), bool)
    assert (
        draw_panel(thin, mask, thin, ~mask, ~mask, "x" * 500).shape
        == panel(None, np.eye(20, dtype=bool)).shape
    )


def test_a_mask_of_another_size_is_named() -> None:
    with pytest.raises(ValueError, match="prediction"):
        panel(None, np.zeros((4, 4), bool))
