"""Which marks are one defect, and that every number of a row is that of its pixels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from lerenet.measure.defects import COLUMNS, measure, number_defects
from lerenet.measure.probability import probability_png, read_probability
from lerenet.measure.regions import Region
from lerenet.measure.settings import Measuring

NAMES = ["Dent", "Rust"]


def drawn(*rows: str) -> np.ndarray:
    """Marks as text: a digit a pixel, a point for none."""
    return np.array([[0 if pixel == "." else int(pixel) for pixel in row] for row in rows], np.uint8)


def table(marks: np.ndarray, regions: dict[str, Region] | None = None, **how: object) -> pd.DataFrame:
    return measure(
        marks, np.where(marks > 0, 0.75, 0.25).astype(np.float32), NAMES, Measuring(**how), regions
    )


def test_pixels_that_meet_at_a_corner_are_one_defect_unless_asked_otherwise() -> None:
    marks = drawn("1..", ".1.", "..1")
    assert list(table(marks)["area_px"]) == [3]
    assert list(table(marks, connectivity=4)["area_px"]) == [1, 1, 1]


def test_touching_defects_of_two_classes_are_two() -> None:
    found = table(drawn("1122", "1122"))
    assert list(found["class"]) == NAMES
    assert list(found["area_px"]) == [4, 4]
    assert list(found["id"]) == [1, 2]


def test_closing_joins_pieces_and_adds_no_pixel() -> None:
    marks = drawn("..........", ".11..11...", "..........")
    assert list(table(marks)["area_px"]) == [2, 2]
    (joined,) = table(marks, closing=1).to_dict("records")
    assert joined["area_px"] == 4
    assert (joined["left"], joined["right"], joined["length_px"]) == (1, 7, 6)
    assert len(table(drawn("1....1"), closing=1)) == 2  # four pixels apart: more than twice the radius


def test_closing_reaches_neither_another_class_nor_beyond_the_border() -> None:
    assert list(table(drawn("121"), closing=3)["class"]) == ["Dent", "Rust"]
    found = table(drawn("1........1", *[".........."] * 8, "1........1"), closing=2)
    assert list(found["area_px"]) == [1, 1, 1, 1]


def test_what_is_smaller_than_the_smallest_is_no_defect() -> None:
    marks = drawn("1.11.111", "........", "22......")
    found = table(marks, smallest=2)
    assert list(found["area_px"]) == [2, 3, 2]
    assert list(found["id"]) == [1, 2, 3]
    assert list(found["class"]) == ["Dent", "Dent", "Rust"]
    assert table(marks, smallest=4).empty


@pytest.mark.parametrize(
    ("row", "column", "touches"),
    [(0, 3, True), (5, 3, True), (3, 0, True), (3, 6, True), (1, 1, False), (4, 5, False)],
)
def test_a_defect_touches_the_border_where_it_has_a_pixel_on_it(row: int, column: int, touches: bool) -> None:
    marks = np.zeros((6, 7), np.uint8)
    marks[row, column] = 1
    (found,) = table(marks).to_dict("records")
    assert found["touches_border"] is touches
    assert (found["left"], found["top"], found["right"], found["bottom"]) == (
        column,
        row,
        column + 1,
        row + 1,
    )
    assert (found["x"], found["y"], found["length_px"], found["width_px"]) == (column, row, 1, 1)


def test_a_defect_has_the_regions_that_hold_a_pixel_of_it() -> None:
    marks = drawn("11......", "........", "......11", "........")
    regions = {
        "edge": Region(left=0, top=0, right=0.25, bottom=1),
        "seal": Region(left=1, top=0, right=7, bottom=3, unit="px"),
        "far": Region(left=100, top=0, right=200, bottom=9, unit="px"),
    }
    assert list(table(marks, regions)["regions"]) == ["edge seal", "seal"]


@pytest.mark.parametrize(
    ("edges", "columns"),
    [((0, 0.5), [0, 1]), ((0.5, 1), [2, 3]), ((0, 0.3), [0]), ((0, 0.4), [0, 1]), ((0.1, 0.12), [])],
)
def test_a_region_holds_the_pixels_whose_centres_lie_in_it(edges: tuple, columns: list[int]) -> None:
    _, across = Region(left=edges[0], right=edges[1], top=0, bottom=1).inside(3, 4)
    assert list(range(4))[across] == columns


def test_without_a_scale_there_are_no_millimetres_and_with_one_they_are_pixels_times_it() -> None:
    marks = drawn("111111", "......")
    assert (
        table(marks)[["area_mm2", "length_mm", "width_mm", "skeleton_mm", "mean_width_mm"]]
        .isna()
        .to_numpy()
        .all()
    )
    (found,) = table(marks, mm_per_pixel=0.5).to_dict("records")
    assert (found["area_mm2"], found["length_mm"], found["width_mm"]) == (6 / 4, 3, 0.5)
    for name in ("skeleton", "mean_width"):
        assert found[f"{name}_mm"] == pytest.approx(found[f"{name}_px"] / 2)


def test_nothing_marked_gives_a_table_without_rows() -> None:
    found = table(np.zeros((4, 5), np.uint8))
    assert (len(found), tuple(found.columns)) == (0, COLUMNS)


@pytest.mark.parametrize(
    "how",
    [{"mm_per_pixel": 0}, {"closing": -1}, {"smallest": 0}, {"connectivity": 6}, {"mm_per_pixel": "inf"}],
)
def test_settings_out_of_range_are_refused(how: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Measuring(**how)


some_marks = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 2))


@given(some_marks, st.integers(0, 3), st.integers(1, 4), st.sampled_from([4, 8]), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_every_row_is_that_of_its_pixels(
    marks: np.ndarray, closing: int, smallest: int, connectivity: int, seed: int
) -> None:
    probability = np.random.default_rng(seed).random(marks.shape).astype(np.float32)
    how = Measuring(closing=closing, smallest=smallest, connectivity=connectivity)
    found = measure(marks, probability, NAMES, how)
    numbered, owners = number_defects(marks, how)
    assert list(found["id"]) == list(range(1, len(owners) + 1))
    for row in found.to_dict("records"):
        mine = numbered == row["id"]
        rows, columns = np.nonzero(mine)
        assert set(marks[mine]) == {NAMES.index(row["class"]) + 1}
        assert row["area_px"] == mine.sum() >= smallest
        assert (row["top"], row["bottom"]) == (rows.min(), rows.max() + 1)
        assert (row["left"], row["right"]) == (columns.min(), columns.max() + 1)
        assert (row["x"], row["y"]) == pytest.approx((columns.mean(), rows.mean()))
        assert row["mean_probability"] == pytest.approx(probability[mine].mean())
        assert row["highest_probability"] == probability[mine].max()
    if smallest == 1:
        assert ((numbered > 0) == (marks > 0)).all()


@given(arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32)))
def test_a_file_of_probabilities_is_above_a_half_where_they_are(probability: np.ndarray) -> None:
    import io

    edge = np.nextafter(np.float32(0.5), np.float32(1))
    probability = np.concatenate([probability, np.array([[0, 1, 0.5, edge, 0.25]], np.float32)])
    read = read_probability(io.BytesIO(probability_png(probability)))
    assert ((read > 0.5) == (probability > 0.5)).all()
    assert abs(read - probability).max() <= 0.5 / 65535 + 1e-12
