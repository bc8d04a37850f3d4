"""The folder of an inspection: marks, probabilities, defects and decisions of one picture agree; a gateway's status."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lerenet.cli.main import app
from lerenet.enrolment.enrol import Given, enrol_class
from lerenet.enrolment.inspect import Inspector
from lerenet.errors import DataError, LerenetError
from lerenet.measure.defects import measure
from lerenet.measure.judging import judge
from lerenet.measure.probability import read_probability
from lerenet.measure.rules import Rules
from lerenet.measure.settings import Measuring
from lerenet.models.serialization import LoadedNetwork
from lerenet.params import EnrolmentSettings
from lerenet.predict.inspected import Inspected
from lerenet.predict.inspections import MARKS, PROBABILITY, Manner, inspect_all
from lerenet.predict.names import OVERLAY
from lerenet.predict.partial import begun, digest_of
from tests.helpers.factories import texture
from tests.helpers.prediction import names, picture, pixels, truth

pytestmark = pytest.mark.usefixtures("prepared_for_classes")

TABLES = {"inspections.json", "inspections.csv", "defects.csv"}


@pytest.fixture
def drafts(loaded: LoadedNetwork, tmp_path: Path) -> Path:
    """A folder with one class, ``Blob``, of seven examples and eight good parts."""
    marked = [picture(tmp_path / "in" / f"{seed}.png", seed) for seed in range(7)]
    good = [plain(tmp_path / "good" / f"{seed}.png", 50 + seed) for seed in range(8)]
    given = Given([(path, [truth(path)]) for path in marked], good)
    enrol_class("Blob", given, loaded, tmp_path / "drafts", EnrolmentSettings(steps=0, curve=()), 0)
    return tmp_path / "drafts"


def plain(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(texture(np.random.default_rng(seed), 1, 96)).resize((80, 60)).save(path)
    return path


def inspector_of(drafts: Path, loaded: LoadedNetwork) -> Inspector:
    from lerenet.enrolment.enrolled import enrolled_in

    return Inspector(loaded, enrolled_in(drafts))


def photos(folder: Path) -> list[Path]:
    bad = [picture(folder / "q" / f"bad{seed}.png", seed) for seed in (30, 31)]
    for path in bad:
        truth(path).unlink()
    return [*bad, plain(folder / "q" / "good.png", 94)]


def test_probability_marks_and_measurements_of_a_picture_agree(
    drafts: Path, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    how = Measuring(mm_per_pixel=0.25, smallest=3)
    out = tmp_path / "out"
    manner = Manner(mark_good=True, probability=True, rules=Rules(measure=how))
    rows = inspect_all(inspector_of(drafts, loaded), photos(tmp_path), out, manner)
    written = pd.read_csv(out / "defects.csv")
    assert len(written) == sum(row.defects for row in rows) > 0
    for row in rows:
        marks = np.asarray(Image.open(out / row.marks))
        probability = read_probability(out / row.probability)
        assert ((probability > 0.5) == (marks > 0)).all()
        assert np.asarray(Image.open(out / row.probability)).dtype == np.uint16
        again = measure(marks, probability.astype(np.float32), ["Blob"], how)
        mine = written[written["image"] == row.image].drop(columns="image")
        assert len(mine) == len(again) == row.defects
        assert list(mine["class"]) == list(again["class"])
        for name in again.columns.drop(["class", "regions"]):
            wanted = pytest.approx(again[name].astype(float).to_numpy(), rel=1e-5, abs=2e-5, nan_ok=True)
            assert mine[name].astype(float).to_numpy() == wanted, name


def test_where_every_class_is_silent_the_probability_is_0(
    drafts: Path, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    found = inspector_of(drafts, loaded)(np.full((60, 80, 3), 200, np.uint8))
    assert not found.marks.any()
    assert not found.probability.any()
    spoken = inspector_of(drafts, loaded)(pixels(photos(tmp_path)[0]))
    assert ((spoken.probability > 0.5) == (spoken.marks > 0)).all()
    assert 0 < spoken.probability.min() < 0.5 < spoken.probability.max() <= 1


def test_nothing_found_still_leaves_every_table(drafts: Path, loaded: LoadedNetwork, tmp_path: Path) -> None:
    grey = tmp_path / "q" / "grey.png"
    grey.parent.mkdir()
    Image.new("RGB", (80, 60), (200, 200, 200)).save(grey)
    (row,) = inspect_all(inspector_of(drafts, loaded), [grey], tmp_path / "out")
    assert (row.verdict, row.decision, row.defects) == ("none of these", "REVIEW", 0)
    assert names(tmp_path / "out") == {*TABLES, "grey_marks.png", "grey_overlay.png"}
    table = pd.read_csv(tmp_path / "out" / "defects.csv")
    assert table.empty
    assert {"image", "class", "area_px", "length_mm"} <= set(table.columns)


def test_the_tables_say_what_was_decided_and_by_what(
    drafts: Path, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    rules = Rules.model_validate({"default": [{"result": "NG", "when": {"area_px": 20}}]})
    broken = tmp_path / "q" / "broken.png"
    images = [*photos(tmp_path), broken]
    broken.write_bytes(b"x")
    rows = inspect_all(inspector_of(drafts, loaded), images, tmp_path / "out", Manner(rules=rules))
    table = pd.read_csv(tmp_path / "out" / "inspections.csv", keep_default_na=False)
    assert list(table["decision"]) == [row.decision for row in rows]
    assert list(table["reason"]) == [row.reason for row in rows]
    assert (rows[-1].decision, rows[-1].defects) == ("", 0)  # not read
    defects = pd.read_csv(tmp_path / "out" / "defects.csv", keep_default_na=False)
    for row in rows[:-1]:
        assert judge(row.classes, defects[defects["image"] == row.image], rules).result == row.decision
    about = json.loads((tmp_path / "out" / "inspections.json").read_text())
    assert about["rules"]["default"] == [{"count": 1, "result": "NG", "when": {"area_px": 20}}]
    assert about["measured"]["connectivity"] == 8


def test_names_leave_room_for_every_ending() -> None:
    assert max(map(len, (MARKS, OVERLAY, PROBABILITY))) == len(OVERLAY)


def test_only_what_is_all_an_inspections_is_replaced(
    drafts: Path, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    inspector, out = inspector_of(drafts, loaded), tmp_path / "out"
    images = photos(tmp_path)
    inspect_all(inspector, images, out, Manner(probability=True))
    assert len(list(out.glob("*_prob.png"))) == 3
    inspect_all(inspector, images[:1], out)
    assert names(out) == {*TABLES, "bad30_marks.png", "bad30_overlay.png"}
    (out / "bad30_prob.png").touch()  # none was written this time
    with pytest.raises(DataError, match="no inspection wrote"):
        inspect_all(inspector, images, out)
    (out / "bad30_prob.png").unlink()
    # An inspection of before there were defects wrote no table of them: this one is somebody's.
    about = json.loads((out / "inspections.json").read_text())
    del about["measured"]
    (out / "inspections.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="no inspection wrote"):
        inspect_all(inspector, images, out)
    (out / "defects.csv").unlink()
    inspect_all(inspector, images[:1], out)
    assert names(out) >= TABLES


@pytest.mark.parametrize("text", ["[]", "{}", "x", '{"images": [1]}', '{"images": 3}'])
def test_a_table_that_no_inspection_wrote_is_no_inspections(
    drafts: Path, loaded: LoadedNetwork, tmp_path: Path, text: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "inspections.json").write_text(text)
    with pytest.raises(DataError, match="no inspection wrote"):
        inspect_all(inspector_of(drafts, loaded), [], tmp_path / "out")


@pytest.fixture
def call(
    drafts: Path, loaded: LoadedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Run ``lerenet inspect`` on photos, with rules' text and options."""
    monkeypatch.setattr("lerenet.predict.inspecting.open_model", lambda model: loaded)

    def run(images: Sequence[Path], text: str | None, *options: str) -> Result:
        words = [*map(str, images), "--from", str(drafts), "--out", str(tmp_path / "out"), *options]
        if text is not None:
            (tmp_path / "rules.yaml").write_text(text)
            words += ["--rules", str(tmp_path / "rules.yaml")]
        return CliRunner().invoke(app, ["inspect", *words])

    return run


ANY = "default: [{result: NG, when: {area_mm2: 0.01}}]"
NEVER = "default: [{result: NG, when: {area_px: 99999}}]"
SCALE = ("--mm-per-pixel", "0.5")


def test_the_command_line_says_decision_and_reason(call, tmp_path: Path) -> None:
    bad = photos(tmp_path)[:1]
    said = call(bad, ANY, *SCALE)
    assert said.exit_code == 0, said.output
    assert "mm2 >= 0.01 mm2" in said.output
    assert "reason" in said.output
    assert "reason" not in call(bad, None).output
    told = call(bad, ANY, *SCALE, "--json", "--probability")
    (row,) = json.loads(told.stdout)["images"]
    assert row["decision"] in ("NG", "REVIEW")
    assert row["probability"] == "bad30_prob.png"


def test_a_gateway_gets_a_status_only_when_it_asks(call, tmp_path: Path) -> None:
    bad, _, good = photos(tmp_path)
    for rules, options in ((ANY, SCALE), (None, ())):
        assert call([bad], rules, *options).exit_code == 0
    said = call([bad], NEVER, "--exit-status")
    assert said.exit_code == 0, said.output
    decision = json.loads(call([bad], ANY, *SCALE, "--json").stdout)["images"][0]["decision"]
    assert call([bad], ANY, *SCALE, "--exit-status").exit_code == {"NG": 3, "REVIEW": 4}[decision]
    unread = tmp_path / "q" / "broken.png"
    unread.write_bytes(b"x")
    assert call([unread, good], NEVER, "--exit-status").exit_code == 1


@pytest.mark.parametrize(
    ("decisions", "error", "asked", "status"),
    [
        (["OK", "OK"], False, True, 0),
        (["OK", "REVIEW"], False, True, 4),
        (["REVIEW", "NG"], False, True, 3),
        (["REVIEW", "NG"], False, False, 0),
        (["REVIEW"], True, True, 1),
        (["NG"], True, True, 3),
        (["NG"], True, False, 1),
    ],
)
def test_the_status_is_the_worst_photos(decisions: list[str], error: bool, asked: bool, status: int) -> None:
    from lerenet.cli.inspection import status as status_of

    rows = [Inspected("a.png", "OK", (), "", "", decision=decision) for decision in decisions]
    rows += [Inspected("b.png", "", (), "", "", "can't be read")] if error else []
    assert status_of(rows, asked) == status


def test_bad_rules_stop_before_anything_is_written(call, tmp_path: Path) -> None:
    for text in (ANY, "classes: {Blub: [{result: NG}]}", "default: [{result: NG, wenn: {}}]"):
        said = call(photos(tmp_path), text)
        assert said.exit_code != 0
        assert "rules.yaml" in str(said.exception)
        assert not (tmp_path / "out").exists()


# -- interrupted ----------------------------------------------------------------------------------------


class Stopping:
    """An inspector that counts photos, and meets Ctrl-C (or what ``error`` is) at one of them."""

    def __init__(
        self, inner: Inspector, at: int | None = None, error: type[BaseException] = KeyboardInterrupt
    ) -> None:
        self.inner, self.at, self.error, self.asked = inner, at, error, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, *given: Any) -> Any:
        if self.asked == self.at:
            raise self.error
        self.asked += 1
        return self.inner(*given)


def begun_beside(out: Path) -> list[Path]:
    return list(out.parent.glob(".inspecting-*"))


def journal_of(out: Path) -> Path:
    return begun_beside(out)[0] / "journal.jsonl"


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_an_interrupted_inspection_goes_on_and_ends_as_an_undisturbed_one(
    drafts: Path, loaded: LoadedNetwork, tmp_path: Path, stop: int
) -> None:
    inspector, images, out = inspector_of(drafts, loaded), photos(tmp_path), tmp_path / "out"
    manner = Manner(probability=True, formats=("coco",))
    inspect_all(inspector, images, out, manner)
    undisturbed = contents(out)
    shutil.rmtree(out)
    with pytest.raises(KeyboardInterrupt, match=f"{stop} of 3 photos"):
        inspect_all(Stopping(inspector, stop), images, out, manner)
    assert not out.exists()
    assert len(begun_beside(out)) == (stop > 0)
    rest = Stopping(inspector)
    inspect_all(rest, images, out, manner)
    assert rest.asked == 3 - stop
    assert contents(out) == undisturbed
    assert not begun_beside(out)


def test_what_an_interrupted_inspection_found_counts_for_the_same_call_alone(
    drafts: Path, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    inspector, images, out = inspector_of(drafts, loaded), photos(tmp_path), tmp_path / "out"

    def stopped() -> None:
        with pytest.raises(KeyboardInterrupt):
            inspect_all(Stopping(inspector, 2), images, out)

    def asked(manner: Manner | None = None, given: Sequence[Path] = images) -> int:
        counting = Stopping(inspector)
        inspect_all(counting, given, out, manner)
        assert names(out) == TABLES | {f"{path.stem}{end}" for path in given for end in (MARKS, OVERLAY)}
        return counting.asked

    stopped()
    assert asked(Manner(mark_good=True)) == 3  # another manner
    stopped()
    Image.open(images[0]).rotate(180).save(images[0])
    assert asked() == 2  # another photo under its name
    stopped()
    (marks,) = begun_beside(out)[0].glob(f"bad31{MARKS}")
    marks.write_bytes(b"torn")
    assert asked() == 2
    stopped()
    journal_of(out).write_bytes(journal_of(out).read_bytes()[:-9])
    assert asked() == 2  # its last line was torn
    stopped()
    (overlay,) = begun_beside(out)[0].glob(f"bad30{OVERLAY}")
    overlay.write_bytes(b"of another photo")
    assert asked() == 2
    stopped()
    lines = [json.loads(line) for line in journal_of(out).read_text().splitlines()]
    lines[1]["row"]["of a later version"] = 1
    journal_of(out).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert asked() == 2
    stopped()
    assert asked(given=images[1:]) == 1  # fewer photos: nothing of the others is left


def test_a_photo_after_a_torn_line_is_kept(drafts: Path, loaded: LoadedNetwork, tmp_path: Path) -> None:
    inspector, images, out = inspector_of(drafts, loaded), photos(tmp_path), tmp_path / "out"
    for stop in (1, 1):
        with pytest.raises(KeyboardInterrupt):
            inspect_all(Stopping(inspector, stop), images, out)
        journal = journal_of(out)
        whole = journal.read_bytes()
        journal.write_bytes(whole[:-9] if whole.count(b"row") == 1 else whole)
    last = Stopping(inspector)
    inspect_all(last, images, out)
    assert last.asked == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interruption_while_the_tables_are_written_loses_no_photo(
    drafts: Path,
    loaded: LoadedNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    inspector, images, out = inspector_of(drafts, loaded), photos(tmp_path), tmp_path / "out"

    def stop(*given: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("lerenet.predict.inspections.write_tables", stop)
        with pytest.raises(error):
            inspect_all(inspector, images, out)
    assert not out.exists()
    again = Stopping(inspector)
    inspect_all(again, images, out)
    assert again.asked == 0


def test_all_that_decides_what_is_found_is_in_the_digest(
    drafts: Path, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    inspector = inspector_of(drafts, loaded)
    (one,) = inspector.classes
    smaller = replace(one.memory, background=one.memory.background + 1)
    point = replace(one.point, bad=99.0) if one.point else None
    others = [
        Inspector(loaded, [replace(one, memory=smaller)]), Inspector(loaded, [replace(one, name="Other")]),
        Inspector(loaded, [one, replace(one, name="Other")]), Inspector(loaded, [replace(one, reader="matching")]),
        Inspector(loaded, [replace(one, point=point)]), Inspector(loaded, [replace(one, examples=one.examples[1:])]),
        Inspector(replace(loaded, version="7"), [one]),
    ]  # fmt: skip
    rules = Rules(measure=Measuring(smallest=9))
    manners = [Manner(mark_good=True), Manner(bits=12), Manner(probability=True), Manner(rules=rules)]
    digests = [digest_of(other, Manner()) for other in others] + [
        digest_of(inspector, manner) for manner in manners
    ]
    assert len({digest_of(inspector, Manner()), *digests}) == 1 + len(others) + len(manners)
    assert digest_of(inspector_of(drafts, loaded), Manner()) == digest_of(inspector, Manner())


def test_what_somebody_corrected_in_the_folder_is_not_replaced(
    drafts: Path, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    inspector, images, out = inspector_of(drafts, loaded), photos(tmp_path), tmp_path / "out"
    for corrected in ("bad30_shapes.json", f"bad30{MARKS}"):
        inspect_all(inspector, images, out, Manner(formats=("labelme",)))
        (out / corrected).write_bytes((out / corrected).read_bytes() + b" ")
        before = contents(out)
        with pytest.raises(DataError, match=rf"{corrected}: was changed"):
            inspect_all(inspector, images, out, Manner(formats=("labelme",)))
        assert contents(out) == before
        shutil.rmtree(out)
    with pytest.raises(DataError, match="no folder that can be replaced"):
        inspect_all(inspector, images, Path())


def test_a_photo_that_goes_away_is_a_row_with_an_error(
    drafts: Path, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    images = [*photos(tmp_path), tmp_path / "gone.png"]
    rows = inspect_all(inspector_of(drafts, loaded), images, tmp_path / "out")
    assert [bool(row.error) for row in rows] == [False, False, False, True]
    assert "gone.png" in rows[-1].error


def test_an_inspection_that_failed_leaves_the_earlier_one(
    drafts: Path, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    inspector, images, out = inspector_of(drafts, loaded), photos(tmp_path), tmp_path / "out"
    inspect_all(inspector, images[:1], out)
    before = contents(out)
    with pytest.raises(MemoryError):
        inspect_all(Stopping(inspector, 1, MemoryError), images, out)
    assert contents(out) == before
    with begun(out, "held"), pytest.raises(LerenetError, match="another `lerenet inspect`"):
        inspect_all(inspector, images, out)
    assert contents(out) == before
