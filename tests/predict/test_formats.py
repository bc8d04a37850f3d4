"""Masks for other tools: the same pixels as the files beside them, and only ours are replaced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as tool
from pycocotools.coco import COCO
from typer.testing import CliRunner

from lerenet.annotations import register
from lerenet.annotations.writing import INSTANCES, RESULTS, SHAPES, TASKS, WRITTEN
from lerenet.errors import DataError
from lerenet.files import read_json, sha256_file
from lerenet.models.serialization import LoadedNetwork
from lerenet.predict import Pair, predict
from lerenet.predict.results import JOURNAL
from tests.helpers.prediction import draw, names, picture, pictures, pixels

# pycocotools 2.0.11 decodes by a protocol that numpy 2 deprecates.
pytestmark = [
    pytest.mark.usefixtures("prepared_once"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
BESIDE = {INSTANCES, RESULTS, TASKS, f"p00{SHAPES}", f"p01{SHAPES}"}


def test_every_format_holds_the_masks_that_are_written(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    queries, out = pictures(tmp_path / "parts", 2), tmp_path / "out"
    broken = tmp_path / "parts" / "broken.png"
    broken.write_bytes(b"x")
    found = predict([support], [broken, *queries], out, loaded, formats=WRITTEN)
    whole = [row for row in found.predictions if row.mask]
    masks = [pixels(out / row.mask) > 0 for row in whole]
    assert any(mask.any() for mask in masks)
    assert names(out) > BESIDE
    tooled = COCO(str(out / INSTANCES))
    scored = tooled.loadRes(str(out / RESULTS))
    capsys.readouterr()
    assert [one["file_name"] for one in tooled.dataset["images"]] == [str(path) for path in queries]
    for number, (mask, row) in enumerate(zip(masks, whole, strict=True), 1):
        for one in tooled.loadAnns(tooled.getAnnIds([number])):
            assert (tooled.annToMask(one) == mask).all()
            assert one["score"] == row.confidence
        for one in scored.loadAnns(scored.getAnnIds([number])):
            assert (tool.decode(one["segmentation"]) == mask).all()
        (shapes,) = register.read(out / f"p0{number - 1}{SHAPES}", "labelme")
        assert (shapes.of_class("defect") == mask).all()
        assert (out / shapes.image).resolve() == queries[number - 1].resolve()
    tasks = read_json(out / TASKS)
    as_export = [{"data": one["data"], "annotations": one["predictions"]} for one in tasks]
    (tmp_path / "export.json").write_text(json.dumps(as_export))
    read = {one.image: one for one in register.read(tmp_path / "export.json", "label-studio")}
    for mask, row in zip(masks, whole, strict=True):
        assert not mask.any() or (read[row.query].of_class("defect") == mask).all()


def test_they_stand_in_the_table_and_a_repeated_call_replaces_them(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    queries, out = pictures(tmp_path / "parts", 2), tmp_path / "out"
    before = predict([support], queries, out, loaded)
    assert before.annotations == {}
    found = predict([support], queries, out, loaded, formats=[*WRITTEN, "coco"])
    assert set(found.annotations) == BESIDE
    assert found.predictions == before.predictions
    assert all(sha256_file(out / name) == digest for name, digest in found.annotations.items())
    again = predict([support], queries, out, loaded, formats=WRITTEN)
    assert again.annotations == found.annotations
    without = predict([support], queries, out, loaded)
    assert without.annotations == {}
    assert set(without.earlier) == BESIDE
    (out / f"p01{SHAPES}").write_text("corrected in labelme")
    with pytest.raises(DataError, match=f"p01{SHAPES}: was changed since"):
        predict([support], queries, out, loaded, formats=["labelme"])
    assert (out / f"p01{SHAPES}").read_text() == "corrected in labelme"


@pytest.mark.parametrize("name", [INSTANCES, RESULTS, TASKS, f"query{SHAPES}"])
def test_somebody_elses_file_is_in_the_way(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork, name: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(DataError, match=f"{name}: is there already"):
        predict([support], [query], out, loaded, formats=WRITTEN)
    assert names(out) == {name}


def test_a_call_that_stops_between_them_goes_on(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lerenet.annotations.writing.label_studio.tasks", stop)
    with pytest.raises(KeyboardInterrupt):
        predict([support], [query], out, loaded, formats=WRITTEN)
    assert {INSTANCES, RESULTS, JOURNAL} <= names(out)
    monkeypatch.undo()
    assert len(predict([support], [query], out, loaded, formats=WRITTEN).annotations) == 4


def test_a_format_that_is_not_written_is_told_before_any_work(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    with pytest.raises(DataError, match=r"--format 'cvat': not written\n.*coco, labelme, label-studio"):
        predict([support], [query], tmp_path / "out", loaded, formats=["cvat"])
    assert not (tmp_path / "out").exists()


def test_on_the_command_line(support: Pair, tmp_path: Path) -> None:
    from lerenet.cli.main import app

    query = picture(tmp_path / "q" / "a.png", 3)
    words = [
        "predict",
        "--support",
        *map(str, support),
        "--query",
        str(query),
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(app, [*words, "--model", "matching", "-f", "coco", "--format", "labelme"])
    assert done.exit_code == 0, done.output
    assert {INSTANCES, RESULTS, f"a{SHAPES}"} < names(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")


def test_the_longest_name_has_room_for_its_shapes(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    query = tmp_path / "q" / f"{'x' * 250}.png"
    draw(query, 3, (80, 60), mask=False)
    found = predict([support], [query], tmp_path / "out", loaded, formats=["labelme"])
    assert np.all([len(name) <= 255 for name in found.annotations])
    assert len(found.annotations) == 1
