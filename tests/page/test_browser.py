"""The page in a real browser: a class drawn, photos inspected, a mask corrected, nothing asked of other machines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import center_of_mass, label

from lerenet.data.dataset import read_sources
from lerenet.data.sample import make_sample
from tests.faults.stack import free_ports
from tests.helpers import PROJECT

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]
CLASS = "Cast_Pit"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    make_sample(folder / "data")
    shutil.copyfile(PROJECT / "params.yaml", folder / "params.yaml")
    return folder


@pytest.fixture(scope="module")
def address(project: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "lerenet", "ui", "--model", "matching", "--port", str(port)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment = {**kept, "PYTHONPATH": str(PROJECT)}
    with (project / "ui.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(120):
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except (URLError, OSError):
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(90_000)
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
        browser.close()
        assert elsewhere == []
        assert errors == []


def panel(page: Page, tab: str) -> Locator:
    page.get_by_role("tab", name=tab).click()
    page.wait_for_timeout(700)  # it slides in
    return page.locator(".q-tab-panel:visible")


def drop(at: Locator, number: int, files: list[Path]) -> None:
    with at.page.expect_file_chooser() as chooser:
        at.locator(".q-uploader").nth(number).locator(".q-btn:has(.q-uploader__input)").click()
    chooser.value.set_files([str(path) for path in files])


def draw(page: Page, canvas: Locator, mask: np.ndarray) -> None:
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    numbered, count = label(mask)
    for number in range(1, count + 1):
        down, across = center_of_mass(numbered == number)
        x = box["x"] + across / mask.shape[1] * box["width"]
        y = box["y"] + down / mask.shape[0] * box["height"]
        page.mouse.move(x - 3, y)
        page.mouse.down()
        page.mouse.move(x + 3, y + 2, steps=3)
        page.mouse.up()


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
