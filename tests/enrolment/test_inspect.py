"""From marked photos and good parts to verdicts and marks on others; bad files leave nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from lerenet.annotations import register
from lerenet.annotations.writing import INSTANCES, RESULTS, SHAPES, TASKS, WRITTEN
from lerenet.enrolment.enrol import Given, enrol_class
from lerenet.enrolment.enrolled import FACTS, MEMORY, enrolled_in, load_enrolled
from lerenet.enrolment.inspect import Inspector
from lerenet.errors import DataError, TrackingError
from lerenet.models.serialization import LoadedNetwork
from lerenet.params import EnrolmentSettings
from lerenet.predict.inspecting import only, require_new, with_drafts
from lerenet.predict.inspections import Manner, inspect_all
from lerenet.registry.lineage_mask import of_mask
from tests.helpers.factories import texture
from tests.helpers.prediction import picture, pixels, truth

pytestmark = pytest.mark.usefixtures("prepared_for_classes")

FAST = EnrolmentSettings(steps=0, curve=())


def clean(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(texture(np.random.default_rng(seed), 1, 96)).resize((80, 60)).save(path)
    return path


@pytest.fixture
def given(tmp_path: Path) -> Given:
    marked = [picture(tmp_path / "in" / f"{seed}.png", seed) for seed in range(7)]
    good = [clean(tmp_path / "good" / f"{seed}.png", 50 + seed) for seed in range(8)]
    return Given([(path, [truth(path)]) for path in marked], good)


def test_a_class_finds_its_defect_and_leaves_good_parts_alone(
    given: Given, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    network = loaded
    enrolled = enrol_class("Blob", given, network, tmp_path / "enrolments", FAST)
    assert (len(enrolled.examples), len(enrolled.good)) == (7, 8)  # five is no limit
    read = load_enrolled(tmp_path / "enrolments" / "Blob")
    assert (read.name, read.point, read.examples) == ("Blob", enrolled.point, enrolled.examples)
    inspector = Inspector(network, [read])
    bad = picture(tmp_path / "q" / "bad.png", 30)
    found = inspector(pixels(bad))
    assert found.verdict in ("REVIEW", "NG")
    marked, wanted = found.marks > 0, pixels(truth(bad)) > 0
    assert (marked & wanted).sum() / (marked | wanted).sum() > 0.4
    parts = [inspector(pixels(clean(tmp_path / "q" / f"{seed}.png", 90 + seed))) for seed in range(6)]
    assert sum(part.verdict == "NG" for part in parts) <= 1
    ok = [part for part in parts if part.verdict == "OK"]
    assert ok
    assert not any(part.marks.any() for part in ok)


def test_a_photo_of_another_surface_is_none_of_these(
    given: Given, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    inspector = Inspector(loaded, [enrol_class("Blob", given, loaded, tmp_path, FAST)])
    found = inspector(np.full((60, 80, 3), 200, np.uint8))
    assert found.verdict == "none of these"
    assert [one.verdict for one in found.classes] == ["other surface"]
    assert not found.marks.any()
    assert inspector(pixels(picture(tmp_path / "q.png", 33))).verdict in ("REVIEW", "NG")


def test_without_enough_good_parts_nothing_is_called(
    given: Given, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    few = Given(given.examples[:1], given.good[:2])
    enrolled = enrol_class("Blob", few, loaded, tmp_path, FAST)
    assert enrolled.point is None
    assert Inspector(loaded, [enrolled])(pixels(given.examples[1][0])).verdict == "not calibrated"


def test_a_budget_holds(given: Given, loaded: LoadedNetwork, tmp_path: Path) -> None:
    memory = enrol_class("Blob", given, loaded, tmp_path, FAST.model_copy(update={"budget": 40})).memory
    assert max(map(len, (memory.foreground, memory.background, memory.good))) <= 40


def test_each_pixel_goes_to_the_class_that_claims_it_most(
    given: Given, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    network = loaded
    one = enrol_class("Blob", Given(given.examples[:2]), network, tmp_path, FAST)
    two = enrol_class("Other", Given(given.examples[3:]), network, tmp_path, FAST)
    found = Inspector(network, [one, two])(pixels(given.examples[0][0]))
    assert set(np.unique(found.marks)) <= {0, 1, 2}
    assert [each.name for each in found.classes] == ["Blob", "Other"]
    assert sum(each.share for each in found.classes) == pytest.approx((found.marks > 0).mean())
    assert [each.name for each in enrolled_in(tmp_path)] == ["Blob", "Other"]


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "a/b", "x" * 65])
def test_a_name_that_is_no_folders_is_refused(
    given: Given, loaded: LoadedNetwork, tmp_path: Path, name: str
) -> None:
    with pytest.raises(DataError, match="no name of a class"):
        enrol_class(name, given, loaded, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_a_bad_file_leaves_what_was_enrolled(given: Given, loaded: LoadedNetwork, tmp_path: Path) -> None:
    enrol_class("Blob", given, loaded, tmp_path / "into", FAST)
    before = (tmp_path / "into" / "Blob" / FACTS).read_bytes()
    given.good[3].write_bytes(b"x")
    with pytest.raises(DataError, match=given.good[3].name):
        enrol_class("Blob", given, loaded, tmp_path / "into", FAST)
    assert (tmp_path / "into" / "Blob" / FACTS).read_bytes() == before


def test_what_was_damaged_or_is_another_networks_is_refused(
    given: Given, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    enrolled = enrol_class("Blob", given, loaded, tmp_path, FAST)
    facts = json.loads((tmp_path / "Blob" / FACTS).read_text())
    (tmp_path / "Blob" / FACTS).write_text(json.dumps({**facts, "network": "0" * 64}))
    with pytest.raises(DataError, match="another network"):
        Inspector(loaded, enrolled_in(tmp_path))
    (tmp_path / "Blob" / MEMORY).write_bytes(b"x")
    with pytest.raises(DataError, match="sha256"):
        enrolled_in(tmp_path)
    with pytest.raises(DataError, match="no class is enrolled"):
        enrolled_in(tmp_path / "nowhere")
    with pytest.raises(DataError, match="255"):
        Inspector(loaded, [enrolled] * 256)


def test_an_inspection_is_a_folder_whole_and_replaces_only_another(
    given: Given, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    network, out = loaded, tmp_path / "out"
    inspector = Inspector(network, [enrol_class("Blob", given, network, tmp_path / "into", FAST)])
    broken = tmp_path / "q" / "broken.png"
    good = picture(tmp_path / "q" / "a.png", 30)
    truth(good).unlink()
    broken.write_bytes(b"x")
    for _ in range(2):
        rows = inspect_all(inspector, [good, broken], out)
    assert [bool(row.error) for row in rows] == [False, True]
    table = pd.read_csv(out / "inspections.csv")
    assert table["Blob verdict"].notna().tolist() == [True, False]
    marks = np.asarray(Image.open(out / rows[0].marks))
    assert marks.shape == pixels(good).shape[:2]
    made, links = of_mask(out / rows[0].marks)
    assert made is None
    assert {link.state for link in links} == {"ok"}
    what = [link.what for link in links]
    assert what[:2] == ["mask", "photo"]
    assert (what.count("Blob: example"), what.count("Blob: good part")) == (7, 8)
    given.examples[2][0].write_bytes(b"another")
    given.good[1].unlink()
    states = [link.state for link in of_mask(out / rows[0].marks)[1]]
    assert (states.count("differs"), states.count("not here")) == (1, 1)
    with pytest.raises(TrackingError, match="no mask that"):
        of_mask(out / rows[0].overlay)
    (out / "mine.txt").touch()
    with pytest.raises(DataError, match="no inspection wrote"):
        inspect_all(inspector, [good], out)
    assert (out / "inspections.csv").exists()


@pytest.mark.whole
def test_other_tools_formats_hold_the_marks_of_each_class(
    given: Given, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    classes = [enrol_class(name, given, loaded, tmp_path / "into", FAST) for name in ("Blob", "Other")]
    inspector, out = Inspector(loaded, classes), tmp_path / "out"
    bad, good = picture(tmp_path / "q" / "bad.png", 30), clean(tmp_path / "q" / "good.png", 91)
    for _ in range(2):  # the second takes the first one's place
        rows = inspect_all(inspector, [bad, good], out, Manner(formats=tuple(WRITTEN)))
    written = json.loads((out / "inspections.json").read_text())["annotations"]
    assert set(written) == {INSTANCES, RESULTS, TASKS, f"bad{SHAPES}", f"good{SHAPES}"}
    read = list(register.read(out / INSTANCES, "coco"))
    assert [one.image for one in read] == [str(bad), str(good)]
    assert any(one.regions for one in read)
    for image, row in zip(read, rows, strict=True):
        marks = pixels(out / row.marks)
        (shapes,) = register.read(out / row.marks.replace("_marks.png", SHAPES), "labelme")
        for number, one in enumerate(row.classes, 1):
            assert (image.of_class(one.name) == (marks == number)).all()
            assert (shapes.of_class(one.name) == (marks == number)).all()
            assert {region.score for region in image.regions if region.name == one.name} <= {one.score}
    with pytest.raises(DataError, match="not written"):
        inspect_all(inspector, [bad], out, Manner(formats=("cvat",)))
    inspect_all(inspector, [bad], out)
    assert len(list(out.iterdir())) == 5


def test_the_command_line_from_photos_to_verdicts(
    given: Given, loaded: LoadedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerenet.cli.main import app

    monkeypatch.setattr("lerenet.predict.inspecting.open_model", lambda model: loaded)
    pairs = [str(path) for image, masks in given.examples for path in (image, *masks)]
    into = ["--into", str(tmp_path / "into")]
    done = CliRunner().invoke(
        app, ["enrol", "Blob", "--example", *pairs, "--good", str(tmp_path / "good"), "--steps", "8", *into]
    )
    assert done.exit_code == 0, done.output
    assert "NG above" in done.output
    bad = picture(tmp_path / "q" / "bad.png", 30)
    words = ["inspect", str(bad), "--from", str(tmp_path / "into"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "Blob" in done.output
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_what_the_model_knows_is_no_draft(given: Given, loaded: LoadedNetwork, tmp_path: Path) -> None:
    known = enrol_class("Blob", given, loaded, tmp_path / "model", FAST)
    with pytest.raises(DataError, match="the model knows it, from 7 examples"):
        require_new("Blob", [known])
    require_new("Other", [known])
    for name in ("Blob", "Other"):
        enrol_class(name, Given(given.examples[:1]), loaded, tmp_path / "drafts", FAST)
    served = with_drafts([known], tmp_path / "drafts")
    assert [(one.name, len(one.examples)) for one in served] == [("Blob", 7), ("Other", 1)]
    with pytest.raises(DataError, match="the model knows none"):
        with_drafts([], tmp_path / "nowhere")
    assert [one.name for one in only(served, ["Other"])] == ["Other"]
    assert only(served, []) == served
    with pytest.raises(DataError, match=r"Bolb: no such class is enrolled\n.*there are Blob, Other"):
        only(served, ["Bolb", "Other"])
