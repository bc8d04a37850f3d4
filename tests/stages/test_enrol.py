"""Stage ``enrol``: nothing is learnt twice, and what was damaged meanwhile is learnt again."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from lerenet import layout
from lerenet.enrolment.enrolled import CLASSES, HEADS, SHARED, enrolled_in
from lerenet.files import read_json, sha256_file
from tests.helpers.pipeline import drawn_project

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """A project of few small classes after the stage."""
    from lerenet.stages import enrol

    folder = drawn_project(
        tmp_path_factory.mktemp("enrol"), mlflow_template, enrolment={"steps": 2, "shared": 1, "curve": []}
    )
    with contextlib.chdir(folder):
        enrol.run()
    return folder


def digests(project: Path) -> dict[str, str]:
    files = (project / layout.ENROL).rglob("*.safetensors")
    return {path.relative_to(project).as_posix(): sha256_file(path) for path in files}


def computed(project: Path) -> float:
    """How many classes the last run of the stage learnt."""
    from lerenet.registry.versions import client

    with contextlib.chdir(project):
        run = read_json(project / layout.ENROL / "run.json")["mlflow_run_id"]
        return float(client().get_run(run).data.metrics["computed"])


def test_a_damaged_class_and_damaged_heads_are_learnt_again_and_nothing_else(
    enrolled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerenet.stages import enrol

    monkeypatch.chdir(enrolled)
    before, kept = digests(enrolled), enrolled / layout.CACHE / "enrol"
    classes = [one.name for one in enrolled_in(layout.ENROL / CLASSES)]
    assert computed(enrolled) == len(classes)
    assert any(name.endswith(SHARED) for name in before)
    enrol.run()
    assert computed(enrolled) == 0
    (heads,) = kept.glob(f"*/{classes[0]}/{HEADS}")
    heads.write_bytes(heads.read_bytes()[:-10])
    (shared,) = kept.glob("shared-*.safetensors")
    shared.write_bytes(b"torn")
    enrol.run()
    assert computed(enrolled) == 1
    assert digests(enrolled) == before
