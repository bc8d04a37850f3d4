"""The live models compared: neither asked about a part that it knows, gains seen, harm and doubtful masks named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lerenet import layout
from lerenet.enrolment.enrolled import READINGS
from lerenet.enrolment.verdicts import episodes, left_out
from lerenet.errors import PromotionError
from lerenet.files import read_json, write_json
from lerenet.params import GateSettings, load_params
from lerenet.registry import gate, live
from lerenet.registry.live_gate import compare
from lerenet.registry.registered import INSPECTED, INSPECTION, PARAMS
from tests.helpers.registry import make_project

SETTINGS = GateSettings(draws=500)


def rows(quality: float, seed: int = 0, called: float = 0.5, false_calls: float = 0.0) -> pd.DataFrame:
    """Two classes of 20 defects and 10 good parts; ``quality`` of each defect is found."""
    rng = np.random.default_rng(seed)
    table = []
    for cls in ("A", "B"):
        for place in range(30):
            size = 200 if place < 20 else 0
            tp = int(size * np.clip(quality + rng.normal(0, 0.05), 0, 1))
            share = called if size else false_calls
            verdict = "NG" if (place % 20) / (20 if size else 10) < share else "REVIEW" if size else "OK"
            table.append(
                (cls, f"{cls}/{place}", f"{cls}{place // 2}", bool(size), tp, 20, size - tp, 1000, verdict)
            )
    names = ["cls", "image", "group", "defect", "tp", "fp", "fn", "tn", "verdict"]
    return pd.DataFrame(table, columns=names).assign(score=0.0, reader="matching")


def test_a_gain_in_marks_and_one_in_calls_are_seen() -> None:
    marks = compare(rows(0.5), rows(0.7), SETTINGS, 0.02)
    assert marks is not None
    assert marks.known is not None
    assert marks.known.gain.low > 10
    assert marks.known.p < 0.01
    assert not marks.harmed
    calls = compare(rows(0.5, called=0.5), rows(0.5, called=0.9), SETTINGS, 0.02)
    assert calls is not None
    assert calls.known is not None
    assert (calls.known.called.before, calls.known.called.after) == (50, 90)
    assert calls.known.called.change.low > 0
    assert calls.known.called.p < 0.01


def test_the_same_model_gains_nothing_and_harms_nothing() -> None:
    same = compare(rows(0.5), rows(0.5), SETTINGS, 0.02)
    assert same is not None
    assert same.known is not None
    gain = same.known.gain
    assert (gain.gain, gain.low, gain.high, same.known.called.change.value) == (0, 0, 0, 0)
    assert same.known.p > 0.5
    assert same.known.called.p > 0.5
    assert not same.harmed


@pytest.mark.parametrize(
    ("challenger", "what"),
    [
        (rows(0.3), "surely worse"),
        (rows(0.3), "class A loses"),
        (rows(0.5, called=0.1), "fewer defects"),
        (rows(0.5).replace({"verdict": {"REVIEW": "OK"}}), "lets more defects pass: +50.0"),
        (rows(0.5, false_calls=0.4), "good parts called NG: 40.0 %"),
    ],
    ids=["marks", "a class", "calls", "escapes", "false calls"],
)
def test_harm_is_named(challenger: pd.DataFrame, what: str) -> None:
    comparison = compare(rows(0.5), challenger, SETTINGS, 0.02)
    assert comparison is not None
    assert any(what in reason for reason in comparison.harmed), comparison.harmed


def test_good_parts_that_the_champion_does_not_decide_are_held_to_what_was_asked_for() -> None:
    unknown = rows(0.5).assign(reader="")
    few = compare(unknown, rows(0.5, false_calls=0.1), SETTINGS, 0.02)
    assert few is not None
    assert few.false_calls is None
    assert not few.harmed  # 2 of 20: not surely more than 2 %
    many = compare(unknown, rows(0.5, false_calls=0.3), SETTINGS, 0.02)
    assert many is not None
    assert many.harmed == ("good parts of new classes called NG: 6 of 20, surely more than 2.0%",)


def test_a_class_that_the_champion_does_not_know_is_a_gain_where_its_defects_are_found() -> None:
    known, found = rows(0.5), rows(0.6)
    few = found[
        (found["cls"] == "A") | found["group"].isin(["B0", "B1", "B2", "B3", "B4", "B5", "B10", "B11"])
    ]
    strange = known["cls"] == "B"
    champion = pd.concat([known[~strange], live.unknown(known[strange])])
    here = compare(champion, few, SETTINGS, 0.02)
    assert here is not None
    assert here.new is not None
    assert here.new.gain.champion == 0
    assert here.new.gain.low > 0
    assert here.new.p < 0.025 / 4  # six parts
    astray = few.assign(tp=few["tp"].where(few["cls"] == "A", 4), fp=few["fp"].where(few["cls"] == "A", 116))
    astray["fn"] = few["tp"] + few["fn"] - astray["tp"]
    nothing = compare(champion, astray, SETTINGS, 0.02)
    assert nothing is not None
    assert nothing.new is not None
    assert nothing.new.p > 0.5
    known_all = compare(known, found, SETTINGS, 0.02)
    assert known_all is not None
    assert known_all.new is None


def test_marks_at_random_on_many_parts_of_a_new_class_are_no_gain_by_any_route() -> None:
    """A champion without the class has 0 there: any mark is more."""
    rng = np.random.default_rng(0)
    known = rows(0.5)
    strange = known["cls"] == "B"
    champion = pd.concat([known[~strange], live.unknown(known[strange])])
    size, marked, pixels = 200, 300, 1300
    hits = rng.hypergeometric(size, pixels - size, marked, len(known))
    bad = strange & known["defect"]
    astray = known.assign(
        tp=known["tp"].where(~bad, hits), fp=known["fp"].where(~bad, marked - hits),
        fn=known["fn"].where(~bad, size - hits), tn=known["tn"].where(~bad, pixels - size - marked + hits),
        verdict=known["verdict"].where(~bad, "NG"),
    )  # fmt: skip
    comparison = compare(champion, astray, SETTINGS, 0.02)
    assert comparison is not None
    assert comparison.new is not None
    assert comparison.new.gain.low > 0
    assert comparison.known is not None
    assert comparison.known.gain.gain == comparison.known.called.change.value == 0
    counts = episodes(known[known["defect"]])
    guards = gate.Guards(validated=True, latency_ms=0.0, export_agrees=True)
    assert gate.decide(counts, counts, SETTINGS, guards, live=comparison).outcome == "inconclusive"


def test_only_images_that_both_were_asked_about_count() -> None:
    comparison = compare(
        rows(0.5).iloc[5:], rows(0.5).iloc[:-3].sample(frac=1, random_state=0), SETTINGS, 0.02
    )
    assert comparison is not None
    assert comparison.known is not None
    assert comparison.known.gain.gain == 0
    assert comparison.known.called.images == 35
    assert compare(rows(0.5), rows(0.5).iloc[:0], SETTINGS, 0.02) is None


@pytest.fixture
def packages(project: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The live models of a champion and of a challenger, the same."""
    params = make_project(project)
    for name in ("champion", "challenger"):
        shutil.copytree(project / "artifacts" / "enrol", tmp_path / name / INSPECTION)
        shutil.copyfile(
            project / "artifacts" / "inspect" / INSPECTED, tmp_path / name / INSPECTION / INSPECTED
        )
        write_json(tmp_path / name / PARAMS, params.model_dump(mode="json"))
    return tmp_path / "champion", tmp_path / "challenger"


def test_a_class_that_both_hold_alike_is_not_computed_again(
    packages: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, challenger = packages
    wanted = live.challenger_rows(challenger)
    pd.testing.assert_frame_equal(live.champion_rows(champion, challenger, None), wanted)  # type: ignore[arg-type]
    facts = challenger / INSPECTION / "classes" / "Blob" / "enrolment.json"
    write_json(
        facts, {**read_json(facts), "reader": "blend"}
    )  # of the same images: as the champion's version says
    pd.testing.assert_frame_equal(live.champion_rows(champion, challenger, None), wanted)  # type: ignore[arg-type]
    said = read_json(facts)
    write_json(facts, {**said, "examples": said["examples"][1:]})
    monkeypatch.setattr(live, "_asked", lambda *_: wanted.assign(score=7.0))
    assert (live.champion_rows(champion, challenger, None)["score"] == 7.0).all()  # type: ignore[arg-type]


def test_verdicts_of_a_class_held_alike_are_by_the_shares_that_the_challenger_was_given(
    packages: tuple[Path, Path],
) -> None:
    """Else another setting looks like a model that calls more, or less."""
    champion, challenger = packages
    facts = challenger / INSPECTION / "classes" / "Blob" / "enrolment.json"
    write_json(facts, {**read_json(facts), "reader": "blend"})
    given = read_json(challenger / PARAMS)
    write_json(
        challenger / PARAMS,
        {**given, "enrolment": {**given["enrolment"], "false_calls": 0.5, "reviews": 0.9}},
    )
    readings = pd.read_parquet(champion / INSPECTION / "classes" / "Blob" / READINGS)
    found = live.champion_rows(champion, challenger, None)  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(found, left_out(readings, 0.5, 0.9).assign(cls="Blob"))
    assert set(found["verdict"]) != set(live.challenger_rows(champion)["verdict"])


def test_a_class_that_the_champion_does_not_know_it_leaves_unmarked(packages: tuple[Path, Path]) -> None:
    champion, challenger = packages
    shutil.rmtree(champion / INSPECTION / "classes" / "Blob")
    found = live.champion_rows(champion, challenger, None)  # type: ignore[arg-type]
    assert not found[["tp", "fp"]].to_numpy().any()
    assert set(found["verdict"]) == {"OK"}
    wanted = live.challenger_rows(challenger)
    assert ((found["fn"] == wanted["tp"] + wanted["fn"]) | ~wanted["defect"]).all()
    assert len(live.new_to(champion, challenger)) == 12


def test_an_image_whose_mask_was_replaced_is_new(packages: tuple[Path, Path]) -> None:
    champion, challenger = packages
    assert live.new_to(champion, challenger) == set()
    facts = challenger / INSPECTION / "classes" / "Blob" / "enrolment.json"
    changed = read_json(facts)
    changed["examples"][3]["masks"] = ["f" * 64]
    write_json(facts, changed)
    assert live.new_to(champion, challenger) == {changed["examples"][3]["name"]}


def test_a_version_without_classes_is_no_challenger(tmp_path: Path) -> None:
    with pytest.raises(PromotionError, match="knows no class"):
        live.challenger_rows(tmp_path)


def test_a_champion_that_this_code_can_not_read_is_said_with_the_way_on(packages: tuple[Path, Path]) -> None:
    champion, challenger = packages
    facts = champion / INSPECTION / "classes" / "Blob" / "enrolment.json"
    said = read_json(facts)
    said["examples"] = said["examples"][1:]
    write_json(facts, {name: value for name, value in said.items() if name != "part_folds"} | {"folds": 4})
    params = load_params(Path("params.yaml"))
    layout.CATALOG.touch()
    write_json(challenger / PARAMS, params.model_dump(mode="json"))
    with pytest.raises(PromotionError, match=r"can't be compared.*part_folds") as refused:
        live.champion_rows(champion, challenger, params)
    assert "--force" in refused.value.remedy
