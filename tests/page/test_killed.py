"""The page's server killed while it writes a correction: the data stay whole, and the correction can be made again."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from lerenet.data.dataset import read_sources
from lerenet.data.masks import read_mask
from lerenet.page.serve import FOLDER
from tests.faults.points import STRUCK
from tests.faults.stack import free_ports
from tests.helpers.browser import CHROMIUM, chromium, opened, sample_project, serving, to_correct
from tests.helpers.data_folder import faults_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]
CLASS = "Cast_Pit"
ADDING, FILES = "lerenet.data.importing.adding", "lerenet.files"
BETWEEN = (
    f"{FILES}:os.replace@5/before"  # after the data's mask, the drawing, the mask, the old folder put aside
)
POINTS = (
    f"{ADDING}:keep@1/after",
    f"{ADDING}:write_mask@1/torn",
    "lerenet.data.dataset:yaml.safe_dump@1/before",  # one table is written, the other is not
    f"{ADDING}:write_tables@1/after",
    f"{FILES}:os.sync@1/after",
    BETWEEN,
    f"{FILES}:os.replace@5/after",
)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which one correction was made and acknowledged."""
    folder = sample_project(tmp_path_factory.mktemp("begun"))
    with serving(folder, *free_ports(1)) as (address, _process), chromium() as browser:
        page = opened(browser, address)
        to_correct(page, *photo_of(folder, 0), CLASS, "Ada").get_by_role("button", name="Save").click()
        page.get_by_text("saved as").wait_for()
    return folder


def photo_of(project: Path, number: int) -> tuple[Path, np.ndarray]:
    photo = sorted((project / "data" / CLASS / "Images").iterdir())[number]
    mask = np.zeros(read_mask(mask_of(photo)).shape, bool)
    mask[60:64, 80:84] = True
    return photo, mask


def mask_of(photo: Path) -> Path:
    return photo.parents[1] / "GT" / f"{photo.stem}.png"


def said_of(project: Path, photo: Path) -> str:
    return read_sources(project / "data")[f"{CLASS}/Images/{photo.name}"]["provenance"].partition(",")[0]


@pytest.mark.parametrize("point", POINTS)
def test_a_server_killed_in_a_correction_leaves_whole_data(point: str, begun: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(begun, project)
    photo, mask = photo_of(project, 1)
    first, (port,) = photo_of(project, 0)[0], free_ports(1)
    before, hers = mask_of(photo).read_bytes(), mask_of(first).read_bytes()
    begun_with = read_mask(mask_of(photo))
    with chromium() as browser:
        with serving(project, port, point) as (address, process):
            page = opened(browser, address)
            page.evaluate("window.before = true")
            correct = to_correct(page, photo, mask, CLASS, "Bo")
            correct.get_by_role("button", name="Save").click()
            process.wait(300)
        assert STRUCK in (project / "ui.log").read_text()
        assert page.get_by_text("saved as").count() == 0
        assert (project / "data").exists() == (point != BETWEEN)
        if point != BETWEEN:
            assert not [fault for fault in faults_of(project / "data") if not fault.startswith("left: ")]
            assert mask_of(photo).read_bytes() == before or said_of(project, photo) == "corrected by Bo"
        with serving(project, port):
            assert not list(Path(tempfile.gettempdir()).glob(f"{FOLDER}{process.pid}-*"))
            page.wait_for_function(
                "!window.before"
            )  # it loads itself anew, for the server knows it no longer
            assert faults_of(project / "data") == []
            assert said_of(project, first) == "corrected by Ada"
            assert mask_of(first).read_bytes() == hers
            to_correct(page, photo, mask, CLASS, "Bo").get_by_role("button", name="Save").click()
            page.get_by_text("saved as").wait_for()
    assert said_of(project, photo) == "corrected by Bo"
    corrected = read_mask(mask_of(photo))
    assert corrected[begun_with].all()
    assert 0 < (corrected & ~begun_with).sum() < 400  # the stroke
    assert faults_of(project / "data") == []
