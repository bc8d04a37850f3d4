"""Whatever is dropped on the page is taken or refused in words, by name; no script runs, and the server lives on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.helpers import PROJECT
from tests.helpers.browser import CHROMIUM, drop, opened, panel

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]
CASES = PROJECT.parent / "shared" / "cases"  # what real files look like, beside a checkout that has them
BATCH = 40
INNARDS = ("Traceback", "Error:", "object at 0x", "/tmp/", "site-packages", "something went wrong")
RUN = "window.ran = true; alert('ran'); document.title = 'ran'"
MARKUP = "<img src=x onerror=window.ran=true;alert(1)>.png"
SCRIPTS = {
    "run.js": RUN,
    "run.html": f"<!doctype html><script>{RUN}</script>",
    "script.svg": f'<svg xmlns="http://www.w3.org/2000/svg" onload="{RUN}"><script>{RUN}</script></svg>',
    "svg.png": f'<svg xmlns="http://www.w3.org/2000/svg"><script>{RUN}</script></svg>',
    "page.jpg": f"<html><script>{RUN}</script></html>",
    MARKUP: "no picture",
}


@pytest.fixture
def page(address: str, browser: Browser) -> Iterator[Page]:
    """A visit in which no script may run but the page's own."""
    said: list[str] = []
    page = opened(browser, address)
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    assert said == []
    assert page.evaluate("window.ran") is None
    assert page.title() == "lerenet"


def answered(page: Page, files: list[Path]) -> dict[str, str]:
    """What the page says of each file that it refuses, once it has an answer for all; in batches."""
    inspect = panel(page, "Inspect")
    for start in range(0, len(files), BATCH):
        drop(inspect, 0, files[start : start + BATCH])
        done = min(start + BATCH, len(files))
        page.wait_for_function(
            "(done) => document.querySelectorAll('.refused').length "
            "+ (parseInt(document.querySelector('.taken').innerText) || 0) >= done",
            arg=done,
        )
    words = inspect.locator(".refused").all_inner_texts()
    taken = int(inspect.locator(".taken").inner_text().replace("no photos yet", "0").split(" ")[0])
    assert len(words) + taken == len(files)
    assert not [line for line in words if any(inner in line for inner in INNARDS)]
    assert page.locator(".q-notification").count() == 0
    names = {path.name for path in files}
    named = {
        line: max((name for name in names if line.startswith(f"{name}: ")), default="") for line in words
    }
    assert "" not in named.values()
    return {name: line for line, name in named.items()}


def test_scripts_and_markup_are_refused_and_nothing_of_them_runs(page: Page, tmp_path: Path) -> None:
    files = []
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text)
        files.append(tmp_path / name)
    large = tmp_path / "large.tif"
    with large.open("wb") as file:
        file.truncate(100_000_000)
    shown = tmp_path / f"good {MARKUP}"
    Image.new("RGB", (64, 48), "grey").save(shown)
    words = answered(page, [*files, large, shown])
    assert words == {
        "run.js": "run.js: no photo; give one of .jpg, .jpeg, .png, .bmp, .tif, .tiff, .webp",
        "run.html": "run.html: no photo; give one of .jpg, .jpeg, .png, .bmp, .tif, .tiff, .webp",
        "script.svg": "script.svg: SVG is not read; save it as PNG or JPEG",
        "svg.png": "svg.png: SVG is not read; save it as PNG or JPEG",
        "page.jpg": "page.jpg: a web page is not read; save it as PNG or JPEG",
        MARKUP: f"{MARKUP}: can't be read as an image: of no format or variant that is read; "
        "replace it by a whole file (JPEG, PNG, BMP, TIFF, WEBP) or delete it",
        "large.tif": "large.tif: over 64 MB; crop or scale it down",
    }
    correct = panel(page, "Correct")  # where the name of a photo is shown, too
    drop(correct, 0, [shown])
    correct.get_by_text(f"{shown.name}, 64 x 48").wait_for()


@pytest.mark.skipif(not CASES.is_dir(), reason="there are no cases here")
def test_every_real_case_is_read_or_refused_in_words(page: Page, project: Path, tmp_path: Path) -> None:
    found = sorted(path for path in CASES.rglob("*") if path.is_file())
    files = []
    for number, path in enumerate(found):  # a browser takes a name once at a time
        files.append(tmp_path / str(number) / path.name)
        files[-1].parent.mkdir()
        shutil.copyfile(path, files[-1])
    assert len(files) > 600
    words = answered(page, files)
    refused = {path.name for path in found if path.parent.name == "bad"}
    assert refused <= words.keys()
    assert {path.name for path in found if path.parent.name == "ok"}.isdisjoint(words)
    assert {path.name for path in found if path.suffix in (".txt", ".zip", ".csv", ".yaml")} <= words.keys()
