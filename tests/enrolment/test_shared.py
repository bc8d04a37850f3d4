"""The head that all classes share: it begins as matching, learns, and knows nothing of the fold that it lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lerenet.data.groups import fold_of
from lerenet.enrolment.enrol import learn, remembered, with_shared
from lerenet.enrolment.enrolled import (
    CLASSES,
    SHARED,
    WHOLE,
    Enrolled,
    Image,
    Left,
    load_enrolled,
    save_enrolled,
    save_heads,
)
from lerenet.enrolment.material import Material
from lerenet.enrolment.memory import similarities
from lerenet.enrolment.readers import OF_ALL, Known, read
from lerenet.enrolment.shared import SharedHead, lesson, train_shared
from lerenet.enrolment.variants import asked
from lerenet.enrolment.verdicts import left_out
from lerenet.errors import DataError
from lerenet.params import EnrolmentSettings
from tests.helpers.enrolment import material_like

SETTINGS = EnrolmentSettings(folds=3, budget=4000, steps=8, false_calls=0.1, reviews=0.2)
GROUPS = list("abcdefghabcdefgh")


def materials() -> list[Material]:
    return [material_like(GROUPS, [place < 8 for place in range(16)], seed=seed) for seed in range(2)]


def taught(both: list[Material], without: int | None, epochs: int = 2) -> SharedHead | None:
    lessons = [lesson(one, remembered(one, SETTINGS), SETTINGS.folds, len(both), 0) for one in both]
    return train_shared(lessons, without, epochs, seed=0)


def test_it_begins_as_matching() -> None:
    material = materials()[0]
    memory = remembered(material, SETTINGS)
    query = material.descriptors[:2].float()
    head = SharedHead(query.shape[1]).eval()
    found = read(Known(memory, None, head), query)
    torch.testing.assert_close(found["shared"].logits, found["matching"].logits)
    near = torch.stack(similarities(query, memory), 1)
    torch.testing.assert_close(head(query, near), 20 * (near[:, 0] - near[:, 1]))


def test_it_learns_what_it_is_taught() -> None:
    both = materials()
    head = taught(both, None, epochs=12)
    assert head is not None
    one = both[0]
    known = Known(remembered(one, SETTINGS), None, head)
    truth = one.shares(one.examples) > 0.5
    marks = read(known, one.descriptors[one.examples].float())["shared"].logits > 0
    hits = (marks & truth).sum() / (marks | truth).sum()
    assert hits > 0.5


def test_it_knows_nothing_of_the_fold_that_it_lacks() -> None:
    both = materials()
    fold = fold_of("a", SETTINGS.folds)
    lacking = torch.tensor([fold_of(group, SETTINGS.folds) == fold for group in GROUPS])
    other = [replace(one, descriptors=one.descriptors.clone(), marks=list(one.marks)) for one in both]
    for one in other:
        one.descriptors[lacking] += 1
        for place in lacking.nonzero().flatten().tolist():
            one.marks[place] = 1 - one.marks[place]
    heads = [taught(some, fold) for some in (both, other)]
    assert heads[0] is not None
    assert heads[1] is not None
    for one, two in zip(heads[0].state_dict().values(), heads[1].state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_one_class_shares_nothing() -> None:
    assert taught(materials()[:1], None) is None


@pytest.fixture(scope="module")
def learnt() -> tuple[Enrolled, Left, Material]:
    """A class with the shared heads among its readers."""
    both = materials()
    names: dict[str, int | None] = {str(fold): fold for fold in range(SETTINGS.folds)} | {WHOLE: None}
    heads = {which: head for which, fold in names.items() if (head := taught(both, fold)) is not None}
    images = [Image(f"i{place}", f"{place:064x}", group) for place, group in enumerate(GROUPS)]
    one, left = learn("Blob", both[0], images, "n" * 64, SETTINGS)
    return (*with_shared(one, left, both[0], heads, SETTINGS), both[0])


@pytest.fixture
def enrolled(learnt: tuple[Enrolled, Left, Material], tmp_path: Path) -> tuple[Enrolled, Left, Material]:
    """The class, as stage ``enrol`` writes it."""
    whole, left, material = learnt
    save_heads(tmp_path / SHARED, whole.shared)
    save_enrolled(tmp_path / CLASSES, whole, left)
    return whole, left, material


def test_each_image_is_read_by_it_once(enrolled: tuple[Enrolled, Left, Material]) -> None:
    _, left, _ = enrolled
    counts = left.readings.groupby(["reader", "image"]).size()
    assert set(OF_ALL) <= set(left.readings["reader"])
    assert (counts == 1).all()
    shares = left.readings.pivot_table(index="image", columns="reader", values="score")
    assert np.allclose(shares["shared"], shares["matching"])  # an image's score is the same by all readers


def test_a_class_comes_back_with_it_and_says_the_same(
    enrolled: tuple[Enrolled, Left, Material], tmp_path: Path
) -> None:
    _, left, material = enrolled
    back = load_enrolled(tmp_path / CLASSES / "Blob")
    assert set(back.shared) == {"0", "1", "2", WHOLE}
    again = asked(back, left.readings, material, 0.1, 0.2)
    again = again.assign(image=[f"i{place}" for place in again.pop("place")]).sort_values(
        "image", ignore_index=True
    )
    wanted = left_out(left.readings, 0.1, 0.2).sort_values("image", ignore_index=True)
    pd.testing.assert_frame_equal(
        again[["image", "reader", "tp", "fp"]], wanted[["image", "reader", "tp", "fp"]]
    )


def test_other_shared_heads_than_those_it_was_written_with_are_refused(
    enrolled: tuple[Enrolled, Left, Material], tmp_path: Path
) -> None:
    (tmp_path / SHARED).write_bytes(b"else")
    with pytest.raises(DataError, match=SHARED):
        load_enrolled(tmp_path / CLASSES / "Blob")


def test_a_fold_without_a_shared_head_is_read_by_the_others(
    enrolled: tuple[Enrolled, Left, Material],
) -> None:
    whole, _, material = enrolled
    images = [Image(f"i{place}", f"{place:064x}", group) for place, group in enumerate(GROUPS)]
    one, left = learn("Blob", material, images, "n" * 64, SETTINGS)
    fold = str(fold_of("a", SETTINGS.folds))
    fewer = {which: head for which, head in whole.shared.items() if which != fold}
    _, more = with_shared(one, left, material, fewer, SETTINGS)
    read_by_it = more.readings[more.readings["reader"] == "shared"]
    assert set(read_by_it["fold"].astype(str)) == set(fewer) - {WHOLE}
    assert set(left.readings["image"]) == set(more.readings["image"])


def test_a_class_of_one_fold_has_nothing_to_choose_by(enrolled: tuple[Enrolled, Left, Material]) -> None:
    whole, *_ = enrolled
    material = material_like(["a", "a"], [True, True])
    images = [Image(f"i{place}", f"{place:064x}", "a") for place in range(2)]
    one, left = learn("Two", material, images, "n" * 64, SETTINGS)
    again, more = with_shared(one, left, material, whole.shared, SETTINGS)
    assert (again.reader, len(more.readings)) == (one.reader, 0)
