"""Panels: the stated rule that picks episodes, and what a picture shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerenet.drawing import FALSE, FOUND, MISSED, OPACITY, TRUTH, draw_panel
from lerenet.errors import DataError
from lerenet.evaluation.masks import read_masks, save_masks
from lerenet.report.episodes import RANKS, choose_episodes, choose_extremes


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


def panel(truth: Any, prediction: Any, name: str = "Matching") -> Any:
    picture = np.full((20, 20, 3), 128, np.uint8)
    return draw_panel(picture, np.zeros((20, 20), bool), picture, truth, {name: prediction})


def shown(image: Any, colour: tuple[int, int, int]) -> bool:
    tint = np.rint((1 - OPACITY) * 128 + OPACITY * np.array(colour)).astype(np.uint8)
    return bool((image == tint).all(axis=2).any())


def test_a_tile_a_model_beside_support_and_query() -> None:
    picture, mask = np.full((20, 20, 3), 128, np.uint8), np.eye(20, dtype=bool)
    widths = [
        draw_panel(picture, mask, picture, mask, dict.fromkeys("abc"[:n], mask)).shape[1] for n in (0, 1, 3)
    ]
    assert widths[2] - widths[1] == 2 * (widths[1] - widths[0])
    assert (draw_panel(picture, mask, picture, mask, {}) == TRUTH).all(axis=2).any()


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


def test_pictures_of_any_size_and_long_names_give_panels_of_one_size() -> None:
    thin = np.zeros((400, 7, 3), np.uint8)
    mask = np.ones((400, 7), bool)
    assert (
        draw_panel(thin, mask, thin, ~mask, {"x" * 500: ~mask}).shape
        == panel(None, np.eye(20, dtype=bool)).shape
    )


def test_a_mask_of_another_size_is_named() -> None:
    with pytest.raises(ValueError, match="Matching"):
        panel(None, np.zeros((4, 4), bool))


def test_masks_come_back_as_they_were(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((5, 7, 9)) > 0.5
    save_masks(tmp_path / "masks.npz", [3, 1, 4, 15, 9], [masks[:2], masks[2:]])
    found = read_masks(tmp_path / "masks.npz")
    assert list(found) == [3, 1, 4, 15, 9]
    assert all((found[number] == mask).all() for number, mask in zip(found, masks, strict=True))
    save_masks(tmp_path / "none.npz", [], [])
    assert read_masks(tmp_path / "none.npz") == {}


def test_a_broken_masks_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "masks.npz").write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"masks\.npz"):
        read_masks(tmp_path / "masks.npz")


def test_the_extremes_are_of_different_classes_and_ties_go_to_the_smaller_number() -> None:
    table = pd.DataFrame(
        [("a", 4, 0.1), ("a", 2, 0.1), ("b", 1, 0.05), ("b", 3, 0.9), ("c", 5, 0.5), ("d", 6, float("nan"))],
        columns=["cls", "episode", "cosine"],
    )
    assert choose_extremes(table, "cosine", True, 2)["episode"].tolist() == [1, 2]
    assert choose_extremes(table, "cosine", False, 9)["episode"].tolist() == [3, 5, 2]


def test_of_each_query_the_first_one_shot_defect_episode_is_kept_for_pictures() -> None:
    from lerenet.evaluation.protocol import shown_episodes

    table = rows([0.0] * 6).assign(query=["b", "a", "a", "b", "c", "d"], episode=[9, 8, 2, 1, 4, 5])
    table.loc[4, "kind"], table.loc[5, "shots"] = "clean", 5
    assert shown_episodes(table)[["query", "episode"]].to_numpy().tolist() == [["b", 1], ["a", 2]]
