"""Leave-group-out: nothing is read by what knows its part, a memory without images is as if they had not been given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lerenet.data.groups import fold_of, in_turn
from lerenet.enrolment.enrol import remembered
from lerenet.enrolment.fitted import fit
from lerenet.enrolment.leave_out import choices, choose, gain, held_out, operating_point, readings, without
from lerenet.enrolment.memory import remember
from lerenet.enrolment.readers import Known
from lerenet.enrolment.verdicts import left_out
from lerenet.params import EnrolmentSettings
from lerenet.seeds import generator
from tests.helpers.enrolment import material_like

parts = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), min_size=1, max_size=12)


@given(parts, st.integers(2, 5))
def test_what_reads_an_image_knows_no_image_of_its_group(images: list[tuple[str, bool]], folds: int) -> None:
    groups, defect = [group for group, _ in images], [bad for _, bad in images]
    material = material_like(groups, defect)
    seen = []
    for kept, asked in held_out(material, folds).values():
        assert not set(material.groups[kept]) & set(material.groups[asked])
        assert (kept & material.defect).any() or not any(defect)
        seen += asked.tolist()
    assert len(seen) == len(set(seen))
    if len({fold_of(group, folds) for group, bad in images if bad}) > 1:
        assert len(seen) == len(images)


def test_a_memory_without_images_is_as_if_they_had_not_been_given() -> None:
    material = material_like(list("aabbccdd"), [True, False] * 4)
    whole = remember(
        material.descriptors[material.examples], material.shares(material.examples),
        material.descriptors[material.good], budget=5000,
    )  # fmt: skip
    kept = material.groups != "b"
    rest = [place for place in material.examples if kept[place]]
    fewer = remember(
        material.descriptors[rest], material.shares(rest),
        material.descriptors[[place for place in material.good if kept[place]]], budget=5000,
    )  # fmt: skip
    cut = without(whole, material, kept)
    for name in ("foreground", "background", "good", "sums"):
        torch.testing.assert_close(getattr(cut, name), getattr(fewer, name))


def test_a_thinned_memory_without_a_fold_is_as_if_it_had_not_been_given() -> None:
    material = material_like(list("aabbccddee"), [True, False] * 5)
    settings = EnrolmentSettings(budget=200, folds=4)
    whole = remembered(material, settings)
    folds = np.array([fold_of(group, 4) for group in material.groups])
    kept = folds != folds[0]
    cut, parts = without(whole, material, kept), len(set(folds.tolist()))
    rest = material.only(np.flatnonzero(kept).tolist())
    fewer = remembered(rest, settings.model_copy(update={"budget": 200 // parts * (parts - 1)}))
    for name in ("foreground", "background", "good", "sums"):
        torch.testing.assert_close(getattr(cut, name), getattr(fewer, name))


def test_a_head_learns_a_class_and_is_the_same_every_time() -> None:
    material = material_like(list("abcdefghij"), [True] * 8 + [False] * 2)
    kept = np.arange(10) != 7
    heads = [fit(material, list(range(7)), [8, 9], 60, seed=0) for _ in range(2)]
    assert heads[0] is not None
    assert heads[1] is not None
    whole = remember(material.descriptors[:8], material.shares(range(8)), material.descriptors[8:])
    memory = without(whole, material, kept)
    rows = readings(material, Known(memory, heads[0]), np.array([7]), 0)
    again = readings(material, Known(memory, heads[1]), np.array([7]), 0)
    pd.testing.assert_frame_equal(rows, again)
    fitted = rows[rows["reader"] == "fitted_edges"].iloc[0]
    assert fitted["tp"] / (fitted["tp"] + fitted["fp"] + fitted["fn"]) > 0.5
    assert fit(material, [0], [], 5, seed=0) is None


def table(ious: dict[str, list[float]]) -> pd.DataFrame:
    """A row for each reader and group, of 100 pixels each."""
    return pd.DataFrame(
        [
            {
                "group": f"g{i}",
                "fold": i % 2,
                "defect": True,
                "reader": reader,
                "tp": round(100 * iou),
            }
            for reader, values in ious.items()
            for i, iou in enumerate(values)
        ]
    ).assign(fp=0, tn=0, fn=lambda rows: 100 - rows["tp"], regions=1, overlap=lambda rows: rows["tp"] / 100)


@pytest.mark.parametrize(
    ("fitted", "wanted"),
    [
        ([0.6, 0.7, 0.65, 0.7], "fitted_edges"),
        ([0.5] * 4, "matching_edges"),
        ([0.9, 0.3, 0.5, 0.4], "matching_edges"),
    ],
    ids=["surely better", "equal", "no surer than its error"],
)
def test_a_reader_is_chosen_for_a_gain_above_its_error(fitted: list[float], wanted: str) -> None:
    assert choose(table({"matching_edges": [0.5, 0.45, 0.5, 0.55], "fitted_edges": fitted})) == wanted


def test_what_marks_one_large_defect_better_and_the_small_ones_worse_is_not_chosen() -> None:
    rows = table({"matching_edges": [0.5, 0.4, 0.45, 0.5], "fitted_edges": [0.9, 0.1, 0.05, 0.1]})
    large = rows["group"] == "g0"
    rows.loc[large, ["tp", "fn"]] *= 100
    assert choose(rows) == "matching_edges"


def test_a_gain_is_of_iou_and_overlap_alike_and_its_error_a_jackknife() -> None:
    rows = table({"matching_edges": [0.5, 0.4, 0.45, 0.6], "fitted_edges": [0.6, 0.7, 0.65, 0.7]})
    one, two = (rows[rows["reader"] == name] for name in ("matching_edges", "fitted_edges"))

    def value(part: pd.DataFrame) -> float:
        iou = part["tp"].sum() / part[["tp", "fp", "fn"]].to_numpy().sum()
        return 100 * float(np.sqrt(iou * part["overlap"].sum() / part["regions"].sum()))

    change, error = gain(one, two)
    assert change == pytest.approx(value(two) - value(one))
    left = [value(two[two["group"] != g]) - value(one[one["group"] != g]) for g in one["group"]]
    assert error == pytest.approx(np.sqrt(3 / 4 * ((left - np.mean(left)) ** 2).sum()))


def test_one_group_chooses_nothing_and_no_fold_chooses_for_itself() -> None:
    assert choose(table({"matching_edges": [0.1], "fitted_edges": [0.9]})) == "matching_edges"
    rows = table({"matching_edges": [0.5] * 6, "fitted_edges": [0.9, 0.1] * 3})  # good in fold 0 alone
    assert choices(rows) == {0: "matching_edges", 1: "fitted_edges"}


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=9))
def test_examples_come_one_of_each_group_before_a_second(groups: list[str]) -> None:
    order = in_turn(groups, generator(0))
    assert sorted(order) == list(range(len(groups)))
    first = [groups[place] for place in order[: len(set(groups))]]
    assert len(set(first)) == len(first)


def test_a_fold_without_a_head_keeps_its_images_and_is_no_vote_against_one() -> None:
    """Six parts, three in one fold: without it there are three examples, too few to fit a head to."""
    row = {"score": 0.0, "alike": 0.5, "defect": True, "fp": 0, "tn": 900, "regions": 1, "overlap": 0.5}
    table = [
        {**row, "image": group, "group": group, "fold": fold, "reader": reader, "tp": tp, "fn": 100 - tp}
        for group, fold in zip("abcdef", (0, 0, 0, 1, 2, 3), strict=True)
        for reader, tp in (("matching_edges", 40), ("fitted_edges", 90))
        if reader == "matching_edges" or fold
    ]
    rows = pd.DataFrame(table)
    assert choose(rows) == "fitted_edges"
    said = left_out(rows, 0.02, 0.1)
    assert sorted(said["image"]) == list("abcdef")
    assert set(said.loc[said["fold"] == 0, "reader"]) == {"matching_edges"}


def test_a_part_counts_once_for_a_threshold() -> None:
    rows = pd.DataFrame({
        "defect": False, "reader": "matching", "group": list("aaaaabcde"), "image": list("123456789"),
        "score": [0.1, 0.2, 0.3, 0.2, 0.1, 0.2, 0.2, 0.2, 0.25], "alike": 0.5,
    })  # fmt: skip
    point = operating_point(rows, "matching", 0.02, 0.1)
    assert point is not None
    assert point.parts == 5
    assert operating_point(rows[rows["group"] != "e"], "matching", 0.02, 0.1) is None


def test_a_part_shown_in_two_classes_is_left_out_of_both_at_once() -> None:
    assert fold_of("MT_Break/tile 21", 1000) == fold_of("MT_Fray/tile 21", 1000) == fold_of("tile 21", 1000)
    assert fold_of("MT_Fray/tile 22", 1000) != fold_of("MT_Fray/tile 21", 1000)
