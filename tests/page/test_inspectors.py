"""Two inspectors at once: one goes in the middle of a correction, or both correct the same photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from lerenet.data.dataset import read_sources
from lerenet.data.importing.replacing import changing
from lerenet.files import alone
from tests.helpers.browser import CHROMIUM, opened, panel, to_correct
from tests.helpers.data_folder import faults_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]
CLASS = "Cast_Pit"


def photo_of(project: Path, number: int) -> tuple[Path, np.ndarray]:
    photo = sorted((project / "data" / CLASS / "Images").iterdir())[number]
    return photo, np.asarray(Image.open(project / "data" / CLASS / "GT" / f"{photo.stem}.png")) > 127


def said_of(project: Path, photo: Path) -> str:
    return read_sources(project / "data")[f"{CLASS}/Images/{photo.name}"]["provenance"].partition(",")[0]


def test_one_goes_in_the_middle_of_a_correction_and_the_other_goes_on(
    project: Path, address: str, browser: Browser
) -> None:
    (his, his_mask), (hers, her_mask) = photo_of(project, 0), photo_of(project, 1)
    going, page = opened(browser, address), opened(browser, address)
    correct = to_correct(page, hers, her_mask, CLASS, "Ada")
    with alone(changing(project / "data")):  # nobody can write now, so his correction is under way
        to_correct(going, his, his_mask, CLASS, "Bo").get_by_role("button", name="Save the mask").click()
        going.wait_for_timeout(2000)
        going.close()
        panel(page, "Models").get_by_text("no version is registered yet").wait_for()  # the page answers her
        panel(page, "Correct")
        correct.get_by_role("button", name="Save the mask").click()
        page.wait_for_timeout(2000)
        assert page.get_by_text("saved as").count() == 0
        assert not said_of(project, his).startswith("corrected")
    page.get_by_text("saved as").wait_for()
    assert said_of(project, hers) == "corrected by Ada"
    assert said_of(project, his) == "corrected by Bo"  # handed in before he went, so it is not lost
    assert faults_of(project / "data") == []


def test_one_goes_in_the_middle_of_a_stroke_and_nothing_of_it_lands(
    project: Path, address: str, browser: Browser
) -> None:
    (his, his_mask), (hers, her_mask) = photo_of(project, 2), photo_of(project, 3)
    going, page = opened(browser, address), opened(browser, address)
    to_correct(going, his, his_mask, CLASS, "Bo")
    box = going.locator("canvas:visible").bounding_box()
    assert box is not None
    going.mouse.move(box["x"] + 20, box["y"] + 20)
    going.mouse.down()
    going.close()
    to_correct(page, hers, her_mask, CLASS, "Ada").get_by_role("button", name="Save the mask").click()
    page.get_by_text("saved as").wait_for()
    assert said_of(project, hers) == "corrected by Ada"
    assert not said_of(project, his).startswith("corrected")
    assert faults_of(project / "data") == []


def test_of_two_who_correct_the_same_photo_one_wins_and_the_other_is_told(
    project: Path, address: str, browser: Browser
) -> None:
    photo, mask = photo_of(project, 4)
    copy = project / photo.name  # as each has it on his own machine
    copy.write_bytes(photo.read_bytes())
    pages = {name: opened(browser, address) for name in ("Ada", "Bo")}
    for name, page in pages.items():
        to_correct(page, copy, mask, CLASS, name)
    with alone(changing(project / "data")):  # so that both have pressed before either is in
        for page in pages.values():
            page.get_by_role("button", name="Save the mask").click()
        page.wait_for_timeout(1000)
    for page in pages.values():
        page.get_by_text("saved as").or_(page.get_by_text("meanwhile")).wait_for()
    winner = said_of(project, photo).removeprefix("corrected by ")
    loser = {"Ada": "Bo", "Bo": "Ada"}[winner]
    assert pages[winner].get_by_text("saved as").count() == 1
    told = pages[loser].get_by_text("meanwhile")
    assert told.inner_text() == (
        f"{photo.name}: {winner} saved it for {CLASS} meanwhile, and that stands; "
        "save once more to replace it by yours"
    )
    pages[loser].get_by_role("button", name="Save the mask").click()
    pages[loser].get_by_text("saved as").wait_for()
    assert said_of(project, photo) == f"corrected by {loser}"
    assert faults_of(project / "data") == []
