"""The page of a verdict: classes before and after, learning curves, the images that changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lerenet.enrolment.material import Material
from lerenet.params import Params
from lerenet.registry import live
from lerenet.registry.registered import INSPECTED, INSPECTION
from lerenet.report.verdict import verdict_page
from tests.helpers.enrolment import material_like
from tests.helpers.registry import make_project

GROUPS = [f"g{place}" for place in range(12)]


@pytest.fixture
def package(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(project)
    shutil.copytree(project / "artifacts" / "enrol", tmp_path / "package" / INSPECTION)
    shutil.copy(project / "artifacts" / "inspect" / INSPECTED, tmp_path / "package" / INSPECTION)
    whole = material_like(GROUPS, [place < 6 for place in range(12)])

    def material(package: Path, cls: str, images: list[str], params: Params) -> Material:
        return whole.only([GROUPS.index(name.removeprefix("Blob/")) for name in images])

    monkeypatch.setattr(live, "material", material)
    return tmp_path / "package"


def test_the_page_shows_what_changes(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = Params.model_validate({"evaluation": {"draws": 200}})
    after = live.challenger_rows(package)
    half = after["tp"] // 2
    worse = after.assign(tp=half, fn=after["fn"] + after["tp"] - half)
    monkeypatch.setattr(live, "champion_rows", lambda champion, challenger, params: worse)
    page = verdict_page("Version 2: promoted", ["gain <b>"], package, package, params)
    assert "Version 2: promoted" in page
    assert "gain &lt;b&gt;" in page
    assert page.count("<img") == 4  # only those that got better
    assert "before: " in page
    assert 'aria-label="IoU of each class' in page
    first = verdict_page("Version 1: first", [], package, None, params)
    assert ">12<" in first  # all are new
    same = verdict_page("Version 3: rejected", [], package, package, params)
    assert same
