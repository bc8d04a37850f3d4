"""The whole loop: a mask corrected in the browser, a retraining by the watcher, the gate's word on the page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from lerenet.data.dataset import read_sources
from tests.faults.stack import standing
from tests.helpers.browser import CHROMIUM, chromium, opened, panel, to_correct

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]
RETRAINING = 3_600_000  # milliseconds that a retraining may take, the one before it included
SIZES = {"desk": (1280, 800), "tablet": (820, 1180)}


def test_a_corrected_mask_is_learnt_and_the_page_says_what_the_gate_said(tmp_path: Path) -> None:
    with standing(tmp_path / "stack") as stack, chromium() as browser:
        data = stack.work / "data"
        photo = sorted(data.glob("*/Images/*"))[0]
        cls, mask = photo.parts[-3], np.zeros((64, 64), bool)
        mask[20:30, 20:30] = True
        before = read_sources(data)
        page = opened(browser, stack.page)
        page.evaluate("window.untouched = true")
        correct = to_correct(page, photo, mask, cls, "Ada")
        correct.get_by_text("version 1: ").wait_for()
        since = datetime.now(UTC)
        correct.get_by_role("button", name="Save the mask").click()
        page.get_by_text("saved as").wait_for()
        name = f"{cls}/Images/{photo.name}"
        assert read_sources(data).keys() == before.keys()
        assert read_sources(data)[name]["provenance"].startswith("corrected by Ada")
        assert stack.wait_for_run(since)
        correct.get_by_text("version 2: ").wait_for(timeout=RETRAINING)
        models = panel(page, "Models")
        models.get_by_role("link", name="pictures").nth(1).wait_for()
        assert page.evaluate("window.untouched")  # it was never loaded again
        for view in ("Correct", "Models"):
            panel(page, view)
            for size, (width, height) in SIZES.items():
                page.set_viewport_size({"width": width, "height": height})
                page.screenshot(path=tmp_path / f"{view}-{size}.png")
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (view, size)
