"""The inspector's page as an inspector has it: a server of its own, Debian's Chromium, hands that drop and draw."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from scipy.ndimage import center_of_mass, label

from lerenet.data.sample import make_sample
from tests.faults.points import VARIABLE
from tests.helpers import PROJECT
from tests.helpers.pipeline import environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 90_000  # milliseconds for what the page does
UI = """
from tests.faults.points import arm_from_environment
arm_from_environment()
from lerenet.cli.main import main
main()
"""


def sample_project(folder: Path) -> Path:
    """A folder with the sample's data, as an inspector's project."""
    make_sample(folder / "data")
    shutil.copyfile(PROJECT / "params.yaml", folder / "params.yaml")
    return folder


def answers(address: str) -> bool:
    """Whether the page stands."""
    try:
        with urlopen(f"{address}health", timeout=2) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


@contextmanager
def serving(project: Path, port: int, fault: str = "") -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """``lerenet ui`` in a project: its address and its process, which dies at ``fault`` (`tests.faults.points`)."""
    command = [sys.executable, "-c", UI, "ui", "--model", "matching", "--port", str(port)]
    variables = {**environment(), "PYTHONPATH": str(PROJECT)} | ({VARIABLE: fault} if fault else {})
    address = f"http://127.0.0.1:{port}/"
    with (project / "ui.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=project, env=variables, stdout=log, stderr=log)
    try:
        while not answers(address) and process.poll() is None:
            time.sleep(0.5)
        yield address, process
    finally:
        process.terminate()
        process.wait(300)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Browser, address: str) -> Page:
    """The page, in a visit and a context of its own, which ends when it is closed."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    return page


def panel(page: Page, tab: str) -> Locator:
    """The view behind a tab."""
    page.get_by_role("tab", name=tab).click()
    page.wait_for_timeout(700)  # it slides in
    return page.locator(".q-tab-panel:visible")


def drop(at: Locator, number: int, files: list[Path]) -> None:
    """Give files to one of the view's fields."""
    with at.page.expect_file_chooser() as chooser:
        at.locator(".q-uploader").nth(number).locator(".q-btn:has(.q-uploader__input)").click()
    chooser.value.set_files([str(path) for path in files])


def draw(page: Page, canvas: Locator, mask: np.ndarray) -> None:
    """A short stroke on each part of a mask."""
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


def to_correct(page: Page, photo: Path, mask: np.ndarray, cls: str, by: str) -> Locator:
    """A photo in the view that corrects, a mask drawn on it, for a class, by somebody; all but the saving."""
    correct = panel(page, "Correct")
    correct.get_by_label("who says so").fill(by)
    drop(correct, 0, [photo])
    correct.get_by_text(f"{photo.name}, ").wait_for()
    draw(page, correct.locator("canvas"), mask)
    correct.get_by_label("class").click()
    page.get_by_role("option", name=cls).click()
    return correct
