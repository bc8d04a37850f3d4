"""The page in a real browser: a class drawn, photos inspected, a mask corrected, nothing asked of other machines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from lerenet.data.dataset import read_sources
from tests.helpers.browser import (
    CHROMIUM,
    PATIENCE,
    draw,
    drop,
    panel,
    to_correct,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]
CLASS = "Cast_Pit"


@pytest.fixture
def page(address: str, browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE)
    elsewhere: list[str] = []
    errors: list[str] = []
    own = (address, address.replace("http", "ws"), "data:", "blob:")
    page.on(
        "request",
        lambda request: elsewhere.append(request.url) if not request.url.startswith(own) else None,
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    yield page
    assert elsewhere == []
    assert errors == []


def test_an_inspector_enrols_inspects_and_corrects(page: Page, project: Path) -> None:
    images = sorted((project / "data" / CLASS / "Images").iterdir())[:5]
    good = sorted((project / "data" / CLASS / "Nd").iterdir())[:5]
    mask = np.asarray(Image.open(project / "data" / CLASS / "GT" / f"{images[0].stem}.png")) > 127
    enrol = panel(page, "Enrol")
    drop(enrol, 0, images[:1])  # the first that comes is drawn on
    enrol.locator("canvas").wait_for()
    drop(enrol, 0, images[1:])
    for image in images[1:]:
        enrol.locator(".text-caption", has_text=image.name).wait_for()
    draw(page, enrol.locator("canvas"), mask)
    enrol.get_by_text("by this one example").wait_for()
    drop(enrol, 1, good)
    enrol.get_by_text("good parts: 5").wait_for()
    enrol.get_by_label("3. Name").fill("Pitting")
    enrol.get_by_role("button", name="Keep as a draft").click()
    page.get_by_text("5 good parts; NG above").wait_for()
    assert (project / "enrolments" / "Pitting" / "enrolment.json").exists()

    inspect = panel(page, "Inspect")
    drop(inspect, 0, [*images, *good])
    inspect.get_by_text("10 photos").wait_for()
    inspect.get_by_role("button", name="Inspect").click()
    inspect.locator(".verdict").nth(9).wait_for()
    with page.expect_download() as download:
        inspect.get_by_role("button", name="Table of defects").click()
    assert Path(download.value.path()).read_text().startswith("image,class")

    inspect.get_by_role("button", name="Correct").first.click()
    page.wait_for_timeout(700)
    correct = page.locator(".q-tab-panel:visible")
    draw(page, correct.locator("canvas"), mask)
    page.wait_for_timeout(1000)
    correct.get_by_label("class").click()
    page.get_by_role("option", name=CLASS).click()
    correct.get_by_label("part").fill("part 12")
    correct.get_by_role("button", name="Save the mask").click()
    page.get_by_text("saved as").wait_for()
    assert "part 12" in {row["group_id"] for row in read_sources(project / "data").values()}

    models = panel(page, "Models")
    models.get_by_text("no version is registered yet").wait_for()


def test_what_is_no_photo_is_refused_on_the_page(page: Page, project: Path) -> None:
    bad = project / "bad"
    bad.mkdir(exist_ok=True)
    (bad / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='document.title=1'/>")
    (bad / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    inspect = panel(page, "Inspect")
    drop(inspect, 0, [bad / "a.svg", bad / "broken.png"])
    page.get_by_text("SVG is not read").wait_for()
    page.get_by_text("broken.png: can't be read as an image").wait_for()
    inspect.get_by_text("no photos yet").wait_for()
    assert page.title() == "lerenet"


def test_what_was_refused_stays_to_be_read_and_a_photo_may_come_again(page: Page, project: Path) -> None:
    photo = sorted((project / "data" / CLASS / "Images").iterdir())[0]
    large = project / "large.png"
    with large.open("wb") as file:
        file.truncate(100_000_000)
    inspect = panel(page, "Inspect")
    for _ in range(2):
        drop(inspect, 0, [photo, large])
        inspect.get_by_text("1 photos").wait_for()
        inspect.get_by_role("button", name="Start anew").click()
        inspect.get_by_text("no photos yet").wait_for()
    words = "large.png: over 64 MB; crop or scale it down"
    assert inspect.locator(".refused").all_inner_texts() == [words] * 2
    inspect.get_by_label("Take these away").click()
    inspect.locator(".refused").first.wait_for(state="detached")


FOLDER = """
([field, names]) => {
    const file = (name) => ({ isFile: true, file: (done) => done(new File(["no"], name)) });
    const reader = (inside) => ({ readEntries: (done) => done(inside.splice(0, 2)) });
    const folder = (inside) => ({ isDirectory: true, createReader: () => reader(inside) });
    const event = new Event("drop", { bubbles: true, cancelable: true });
    const entry = folder([file("a.txt"), folder(names.map(file)), file(names[0])]);
    Object.defineProperty(event, "dataTransfer", { value: { items: [{ webkitGetAsEntry: () => entry }], files: [] } });
    field.dispatchEvent(event);
}
"""  # no browser lets a page make an entry of a folder


def test_a_folder_is_chosen_or_dropped_and_its_photos_are_taken(page: Page, project: Path) -> None:
    folder = project / "of photos" / "shift 2"
    folder.mkdir(parents=True)
    photos = sorted((project / "data" / CLASS / "Images").iterdir())[:3]
    for photo in photos:
        shutil.copyfile(photo, folder / photo.name)
    (folder / "notes.txt").write_text("no photo")
    inspect = panel(page, "Inspect")
    with page.expect_file_chooser() as chooser:
        inspect.get_by_role("button", name="A folder").click()
    chooser.value.set_files(folder.parent)
    inspect.get_by_text("3 photos").wait_for()
    assert inspect.locator(".refused").count() == 0
    field = inspect.locator(".q-uploader").first.element_handle()
    page.evaluate(FOLDER, [field, ["one.png", "two.png", "three.png"]])
    inspect.get_by_text("three.png: can't be read as an image").wait_for()
    names = [words.partition(":")[0] for words in inspect.locator(".refused").all_inner_texts()]
    assert sorted(names) == ["one.png", "one.png", "three.png", "two.png"]
    with page.expect_file_chooser() as chooser:
        inspect.get_by_role("button", name="A folder").click()
    (project / "empty").mkdir()
    (project / "empty" / "notes.txt").write_text("no photo")
    chooser.value.set_files(project / "empty")
    page.get_by_text("no photo in that folder, of 1 files").wait_for()


def test_a_drawing_that_did_not_arrive_is_sent_again_before_it_is_saved(page: Page, project: Path) -> None:
    photo = sorted((project / "data" / CLASS / "Images").iterdir())[1]
    mask = np.asarray(Image.open(project / "data" / CLASS / "GT" / f"{photo.stem}.png")) > 127
    lost: list[Route] = []

    def lose(route: Route) -> None:
        if route.request.method == "GET" or lost:
            route.continue_()
        else:
            lost.append(route)
            route.abort()

    page.route("**/mask/*", lose)
    correct = to_correct(page, photo, mask, CLASS, "Ada")
    page.get_by_text("not saved").wait_for()
    correct.get_by_role("button", name="Save the mask").click()
    page.get_by_text("saved as").wait_for()
