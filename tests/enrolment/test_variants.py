"""A class without a fold says of its own images what it said when it was enrolled, and judges new ones alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lerenet.enrolment.enrol import learn
from lerenet.enrolment.enrolled import Image, load_enrolled, save_enrolled
from lerenet.enrolment.material import Material
from lerenet.enrolment.variants import asked
from lerenet.enrolment.verdicts import left_out
from lerenet.params import EnrolmentSettings
from tests.helpers.enrolment import material_like

SETTINGS = EnrolmentSettings(folds=3, budget=4000, steps=8, false_calls=0.1, reviews=0.2)


def enrolled(material: Material) -> tuple:
    images = [Image(f"i{place}", f"{place:064x}", str(group)) for place, group in enumerate(material.groups)]
    return learn("Blob", material, images, "n" * 64, SETTINGS)


@pytest.mark.parametrize(
    "groups", ["abcdefghabcdefgh", "aaaabcdefgcdefgh"], ids=["many", "examples of one group"]
)
def test_a_class_says_the_same_of_its_own_images_as_when_it_was_enrolled(groups: str, tmp_path: Path) -> None:
    material = material_like(
        list(groups),
        [group < "c" or (groups == "abcdefghabcdefgh" and place < 8) for place, group in enumerate(groups)],
    )
    one, left = enrolled(material)
    save_enrolled(tmp_path, one, left)
    readings = left.readings
    again = asked(load_enrolled(tmp_path / "Blob"), readings, material, 0.1, 0.2)
    wanted = left_out(readings, 0.1, 0.2)
    again = again.assign(image=[f"i{place}" for place in again.pop("place")])
    by = ["image", "reader", "verdict", "fold"]
    pd.testing.assert_frame_equal(
        again.sort_values("image", ignore_index=True)[by], wanted.sort_values("image", ignore_index=True)[by]
    )


def test_an_image_of_a_part_that_is_known_in_every_fold_is_left_out() -> None:
    material = material_like(list("aaaa"), [True] * 4)
    one, left = enrolled(material)
    readings = left.readings
    new = material_like(list("az"), [True, True], seed=1)
    rows = asked(one, readings, new, 0.1, 0.2)
    assert rows["place"].tolist() == [1]
    assert np.isfinite(rows["score"]).all()
