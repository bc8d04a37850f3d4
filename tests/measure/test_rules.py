"""Rules: a file is checked key by key; what it means for defects, under the classes' own verdicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerenet.enrolment.decision import Verdict
from lerenet.enrolment.inspect import ClassVerdict
from lerenet.errors import DataError, ParamsError
from lerenet.measure.defects import measure
from lerenet.measure.judging import Decision, judge
from lerenet.measure.rules import Rules, fitted, load_rules
from tests.helpers import PROJECT, written

CLASSES = ["Pit", "Scratch"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rules: []", r"rules: unknown key; allowed: classes, default, measure, regions"),
        (
            "classes: {Pit: [{result: NG, wenn: {}}]}",
            r"classes\.Pit\.0\.wenn: unknown key; allowed: count, result",
        ),
        (
            "default: [{result: NG, when: {lenght_mm: 3}}]",
            r"default\.0\.when\.lenght_mm: unknown key; allowed: all, any,",
        ),
        (
            "default: [{result: NG, when: {any: [{size: 3}]}}]",
            r"default\.0\.when\.any\.0\.size: unknown key; allowed: all",
        ),
        ("default: [{result: NG, when: {every: [{area_px: 3}]}}]", r"when\.every: unknown key"),
        ("default: [{result: BAD}]", r"default\.0\.result: .*'REVIEW' or 'NG' \(got 'BAD'\)"),
        ("default: [{when: {area_px: 1}}]", r"default\.0\.result: Field required"),
        (
            "default: [{result: NG, when: {area_px: -1}}]",
            r"default\.0\.when\.area_px: .*greater than or equal to 0",
        ),
        ("default: [{result: NG, when: {area_px: .nan}}]", r"default\.0\.when\.area_px: .*"),
        (
            "default: [{result: NG, when: {mean_probability: 60}}]",
            r"mean_probability: .*less than or equal to 1",
        ),
        ("default: [{result: NG, when: {}}]", r"default\.0\.when: an empty condition; leave it out"),
        ("default: [{result: NG, when: {all: []}}]", r"default\.0\.when\.all: .*at least 1"),
        ("default: [{result: NG, count: 0}]", r"default\.0\.count: .*greater than or equal to 1"),
        ("default: []", r"default: .*at least 1"),
        ("classes: {Pit: []}", r"classes\.Pit: .*at least 1"),
        (
            "default: [{result: NG, when: {region: edge}}]",
            r"default\.0\.when\.region: 'edge' is not under 'regions' \(none\)",
        ),
        ("regions: {edge: {left: 0, top: 0, right: 0.1}}", r"regions\.edge\.bottom: Field required"),
        (
            "regions: {edge: {left: 0.2, top: 0, right: 0.1, bottom: 1}}",
            r"regions\.edge: left must be less than right",
        ),
        (
            "regions: {edge: {left: 0, top: 0, right: 90, bottom: 1}}",
            r"regions\.edge: shares go up to 1; write unit: px",
        ),
        (
            "regions: {edge: {left: 0, top: 0, right: 1, bottom: 1, unit: mm}}",
            r"regions\.edge\.unit: .*'share' or 'px'",
        ),
        ("regions: {my edge: {left: 0, top: 0, right: 1, bottom: 1}}", r"regions\.my edge.*pattern"),
        ("measure: {mm_per_pixel: 0}", r"measure\.mm_per_pixel: .*greater than 0 \(got 0\)"),
        (
            "measure: {gap: 3}",
            r"measure\.gap: unknown key; allowed: closing, connectivity, mm_per_pixel, smallest",
        ),
        ("[1, 2]", r"\(top level\): .*dictionary"),
    ],
)
def test_a_bad_file_is_refused_with_file_and_key(tmp_path: Path, text: str, expected: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ParamsError, match=expected) as refused:
        load_rules(path)
    assert str(path) in refused.value.what
    assert refused.value.remedy


@pytest.mark.parametrize(
    "text", ["a: [", "default: [{result: NG}]\ndefault: [{result: REVIEW}]", "a: &x 1\nb: *x"]
)
def test_what_is_no_yaml_is_refused_with_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"rules\.yaml: not valid YAML"):
        load_rules(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"rules\.yaml: not found"):
        load_rules(tmp_path / "rules.yaml")


def test_an_empty_file_has_no_rules(tmp_path: Path) -> None:
    assert load_rules(written(tmp_path, "")) == Rules()


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("classes: {Pits: [{result: NG}]}", {}, r"f: classes\.Pits: no such class .* there are Pit, Scratch"),
        (
            "default: [{result: NG, when: {any: [{area_mm2: 1}]}}]",
            {},
            r"f: default\.0\.when\.any\.0\.area_mm2: the scale",
        ),
        ("", {"mm_per_pixel": -1.0}, r"mm_per_pixel: .*greater than 0"),
        ("", {"connectivity": 6}, r"connectivity: .*4 or 8"),
    ],
)
def test_rules_that_do_not_fit_the_call_are_refused(
    tmp_path: Path, text: str, options: dict[str, object], expected: str
) -> None:
    with pytest.raises(ParamsError, match=expected):
        fitted(load_rules(written(tmp_path, text)), CLASSES, options, "f")


def test_an_option_goes_before_the_file_and_gives_the_scale(tmp_path: Path) -> None:
    text = (
        "measure: {closing: 3, smallest: 9, mm_per_pixel: 2}\ndefault: [{result: NG, when: {length_mm: 3}}]"
    )
    rules = load_rules(written(tmp_path, text))
    measuring = fitted(rules, CLASSES, {"closing": 0, "mm_per_pixel": 0.5, "smallest": None}).measure
    assert (measuring.closing, measuring.smallest, measuring.mm_per_pixel) == (0, 9, 0.5)


def test_the_file_in_the_documents_is_one(tmp_path: Path) -> None:
    text = (
        (PROJECT / "docs" / "inspect.md")
        .read_text()
        .split("## Rules")[1]
        .split("```yaml\n")[1]
        .split("```")[0]
    )
    rules = fitted(load_rules(written(tmp_path, text)), CLASSES, {})
    assert set(rules.classes) == set(CLASSES)
    assert set(rules.rectangles) == {"edge", "seal"}


# Judging: two scratches of 12 x 1 and 4 x 1 pixels and a pit of 3 x 3, on 20 x 40; half a millimetre each.

WHOLE = """
measure: {mm_per_pixel: 0.5}
regions:
  edge: {left: 0, top: 0, right: 0.1, bottom: 1}
"""


def picture() -> tuple[np.ndarray, np.ndarray]:
    marks = np.zeros((20, 40), np.uint8)
    marks[2, 2:14] = 2
    marks[10, 20:24] = 2
    marks[15:18, 30:33] = 1
    probability = np.where(marks > 0, 0.8, 0.1).astype(np.float32)
    probability[2, 5] = 0.97
    return marks, probability


def decided(tmp_path: Path, text: str, **verdicts: Verdict) -> Decision:
    """Decide on `picture`, by rules, with verdicts of its classes; a class without one calls it NG."""
    marks, probability = picture()
    rules = load_rules(written(tmp_path, WHOLE + text))
    defects = measure(marks, probability, CLASSES, rules.measure, rules.rectangles)
    classes = [
        ClassVerdict(name, verdicts.get(name, "NG"), 3.5, float((marks == number).mean()))
        for number, name in enumerate(CLASSES, 1)
    ]
    return judge(classes, defects, rules)


ONLY = "classes:\n  Pit: [{result: REVIEW, when: {area_px: 1000}}]\n  Scratch:\n    - "


@pytest.mark.parametrize(
    ("rule", "result", "reason"),
    [
        (
            "{result: NG, when: {length_mm: 5, region: edge}}",
            "NG",
            "Scratch: length 6 mm >= 5 mm in region edge",
        ),
        ("{result: NG, when: {length_px: 12}}", "NG", "Scratch: length 12 px >= 12 px"),
        (
            "{result: NG, when: {length_px: 12.1}}",
            "OK",
            "Pit: 1 defect, no rule is met; Scratch: 2 defects, no rule is met",
        ),
        (
            "{result: NG, when: {area_mm2: 3, width_mm: 0.5}}",
            "NG",
            "Scratch: area 3 mm2 >= 3 mm2 and width 0.5 mm >= 0.5 mm",
        ),
        (
            "{result: REVIEW, count: 2, when: {length_px: 4}}",
            "REVIEW",
            "Scratch: 2 defects >= 2, length 12 px >= 4 px",
        ),
        ("{result: NG, count: 3}", "OK", None),
        ("{result: NG, count: 2}", "NG", "Scratch: 2 defects >= 2"),
        ("{result: NG}", "NG", "Scratch: 2 defects"),
        ("{result: NG, score: 3.5}", "NG", "Scratch: score 3.5 >= 3.5, 2 defects"),
        ("{result: NG, score: 3.6}", "OK", None),
        (
            "{result: NG, when: {highest_probability: 0.95}}",
            "NG",
            "Scratch: highest probability 0.97 >= 0.95",
        ),
        ("{result: NG, when: {mean_probability: 0.95}}", "OK", None),
        ("{result: NG, when: {touches_border: true}}", "OK", None),
        (
            "{result: NG, when: {touches_border: false, length_px: 12}}",
            "NG",
            "Scratch: length 12 px >= 12 px clear of the border",
        ),
        (
            "{result: NG, when: {rectangle: {left: 20, top: 0, right: 40, bottom: 11, unit: px}}}",
            "NG",
            "Scratch: in region 20:0:40:11px",
        ),
        (
            "{result: NG, when: {length_px: 5, rectangle: {left: 20, top: 0, right: 40, bottom: 11, unit: px}}}",
            "OK",
            None,
        ),
        (
            "{result: NG, when: {any: [{length_px: 99}, {all: [{area_px: 12}, {region: edge}]}]}}",
            "NG",
            "Scratch: area 12 px >= 12 px and in region edge",
        ),
        ("{result: NG, when: {any: [{length_px: 99}, {area_px: 13}]}}", "OK", None),
        ("{result: NG, when: {all: [{length_px: 5}, {any: [{touches_border: true}]}]}}", "OK", None),
        (
            "{result: REVIEW, when: {length_px: 3}}\n    - {result: NG, when: {length_px: 10}}",
            "NG",
            "Scratch: length 12 px >= 10 px",
        ),
    ],
)
def test_a_rule(tmp_path: Path, rule: str, result: str, reason: str | None) -> None:
    found = decided(tmp_path, ONLY + rule)
    assert found.result == result
    assert reason is None or found.reason == reason


NG = "default: [{result: NG, when: {length_px: 4}}]"


@pytest.mark.parametrize(
    ("text", "verdicts", "result", "reason"),
    [
        # Rules make a class that calls NG better, and the worst class counts.
        ("default: [{result: NG, when: {length_px: 99}}]", {}, "OK", "no rule is met"),
        (NG, {}, "NG", "^Scratch: length 12 px >= 4 px$"),
        # They don't make a class worse than its verdict.
        (
            NG,
            {"Scratch": "REVIEW"},
            "REVIEW",
            "length 12 px >= 4 px, a mark that the class itself would have reviewed",
        ),
        (NG, {"Scratch": "OK"}, "OK", "^Pit: 1 defect, no rule is met$"),
        (NG, {"Scratch": "other surface"}, "OK", "^Pit: 1 defect"),
        (NG, {"Scratch": "OK", "Pit": "OK"}, "OK", "^no class finds a defect$"),
        (NG, {"Scratch": "other surface", "Pit": "other surface"}, "REVIEW", "none of these"),
        # A class that is not calibrated has nothing but its marks.
        (NG, {"Scratch": "not calibrated"}, "NG", "length"),
        # A class without rules keeps its verdict.
        ("classes: {Scratch: [{result: REVIEW}]}", {}, "NG", r"^Pit: NG, score 3\.5$"),
        ("", {"Pit": "REVIEW", "Scratch": "OK"}, "REVIEW", "^Pit: REVIEW"),
        ("", {"Pit": "not calibrated", "Scratch": "OK"}, "REVIEW", "^Pit: not calibrated"),
        ("", {"Pit": "OK", "Scratch": "OK"}, "OK", "no class finds a defect"),
        # A class's own rules take the default's place.
        (
            f"{NG}\nclasses: {{Scratch: [{{result: REVIEW, when: {{length_px: 4}}}}]}}",
            {},
            "REVIEW",
            "^Scratch",
        ),
    ],
)
def test_rules_and_verdicts_together(
    tmp_path: Path, text: str, verdicts: dict[str, Verdict], result: str, reason: str
) -> None:
    import re

    found = decided(tmp_path, text, **verdicts)
    assert found.result == result
    assert re.search(reason, found.reason), found.reason


@pytest.mark.parametrize(
    ("verdict", "result"),
    [("NG", "REVIEW"), ("REVIEW", "REVIEW"), ("not calibrated", "OK"), ("OK", "OK")],
)
def test_what_a_class_suspects_without_a_mark_a_person_sees(
    tmp_path: Path, verdict: Verdict, result: str
) -> None:
    rules = load_rules(written(tmp_path, NG))
    nothing = measure(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.float32), CLASSES, rules.measure)
    assert judge([ClassVerdict("Pit", verdict, 3.5, 0.0)], nothing, rules).result == result


some_verdict = st.sampled_from(["OK", "REVIEW", "NG", "not calibrated", "other surface"])
some_rule = st.fixed_dictionaries(
    {"result": st.sampled_from(["REVIEW", "NG"]), "count": st.integers(1, 3)},
    optional={"when": st.fixed_dictionaries({"area_px": st.integers(0, 20)}), "score": st.floats(0, 5)},
)
MOST = {"OK": "OK", "REVIEW": "REVIEW", "NG": "NG", "not calibrated": "NG", "other surface": "OK"}


@given(some_verdict, some_verdict, st.lists(some_rule, max_size=3))
def test_no_rule_makes_a_picture_worse_than_its_classes_verdicts(
    pit: Verdict, scratch: Verdict, rules: list[dict]
) -> None:
    marks, probability = picture()
    asked = Rules.model_validate({"default": rules or None})
    defects = measure(marks, probability, CLASSES, asked.measure)
    found = judge(
        [ClassVerdict("Pit", pit, 3.5, 0.1), ClassVerdict("Scratch", scratch, 3.5, 0.1)], defects, asked
    )
    order = ["OK", "REVIEW", "NG"]
    none = pit == scratch == "other surface"
    most = "REVIEW" if none else max((MOST[pit], MOST[scratch]), key=order.index)
    assert order.index(found.result) <= order.index(most)
    assert found.reason


def test_what_was_judged_stands_in_the_table(tmp_path: Path) -> None:
    """Read back from a CSV file, defects are judged the same."""
    marks, probability = picture()
    rules = load_rules(written(tmp_path, WHOLE + ONLY + "{result: NG, when: {length_mm: 5, region: edge}}"))
    defects = measure(marks, probability, CLASSES, rules.measure, rules.rectangles)
    defects.to_csv(tmp_path / "defects.csv", index=False, float_format="%.6g")
    read = pd.read_csv(tmp_path / "defects.csv", keep_default_na=False, na_values={"length_mm": ""})
    classes = [ClassVerdict("Scratch", "NG", 3.5, 0.1)]
    assert judge(classes, read, rules) == judge(classes, defects, rules)


@pytest.mark.parametrize("least", [4, 11, 30])
@pytest.mark.parametrize("name", ["mean_width_px", "width_px", "area_px", "length_px"])
def test_a_defect_that_grows_wider_is_never_called_better(name: str, least: int) -> None:
    rules = Rules.model_validate({"default": [{"result": "NG", "when": {name: least}}]})
    results = []
    for width in (2, 5, 8, 20, 40):
        marks = np.zeros((70, 70), np.uint8)
        marks[5 : 5 + width, 5:65] = 1
        defects = measure(marks, np.ones(marks.shape, np.float32), ["Pit"], rules.measure)
        said = ClassVerdict("Pit", "NG", 9.0, float((marks > 0).mean()))
        results.append(judge([said], defects, rules).result == "NG")
    assert results == sorted(results)


def test_the_length_stands_in_for_the_skeleton_of_what_is_not_thin() -> None:
    rules = Rules.model_validate({"default": [{"result": "NG", "when": {"skeleton_px": 20}}]})
    marks = np.zeros((50, 50), np.uint8)
    marks[5:35, 5:35] = 1
    defects = measure(marks, np.ones(marks.shape, np.float32), ["Pit"], rules.measure)
    decision = judge([ClassVerdict("Pit", "NG", 9.0, 0.4)], defects, rules)
    assert decision.result == "NG"
    assert "length" in decision.reason
