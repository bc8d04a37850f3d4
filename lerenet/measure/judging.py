"""OK, REVIEW or NG for a picture, and why in words: what the rules make of its defects, under its classes' verdicts.

The two have a say of their own. A class's calibrated verdict says how far its marks are believed: not at all where it
calls the image OK or of another surface, for a person to look where it says REVIEW, wholly where it says NG or is not
calibrated. The rules say what believed defects mean. So rules can call an image better than its class does, never
worse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from lerenet.enrolment.decision import SILENT
from lerenet.enrolment.inspect import NONE, ClassVerdict
from lerenet.measure.rules import Condition, Rule, Rules

Result = Literal["OK", "REVIEW", "NG"]
Row = Mapping[Any, Any]  # of defects.csv
RESULTS: tuple[Result, ...] = ("OK", "REVIEW", "NG")
UNITS = {"px": " px", "mm": " mm", "mm2": " mm2"}
INSTEAD = {"mean_width": "width", "skeleton": "length"}  # of a defect that isn't thin, and has neither


@dataclass(frozen=True)
class Decision:
    """What is to become of a part.

    Attributes:
        reason: of the result, in words.
    """

    result: Result
    reason: str


def worst(results: Sequence[Result]) -> Result:
    """The worst of some results; OK of none."""
    return max(results, key=RESULTS.index, default="OK")


def judge(classes: Sequence[ClassVerdict], defects: pd.DataFrame, rules: Rules) -> Decision:
    """Decide on a picture.

    Args:
        classes: what each class says of it.
        defects: its rows of `lerenet.measure.defects.measure`.
    """
    if all(one.verdict == "other surface" for one in classes):
        return Decision("REVIEW", f"{NONE}: a surface that no class knows")
    rows = defects.sort_values("area_px", ascending=False, kind="stable").to_dict("records")
    said = [
        _of_class(one, [row for row in rows if row["class"] == one.name], rules.of(one.name))
        for one in classes
        if one.verdict not in SILENT
    ]
    result = worst([one.result for one in said])
    reasons = [one.reason for one in said if one.result == result]
    return Decision(result, "; ".join(reasons) or "no class finds a defect")


def _of_class(one: ClassVerdict, rows: Sequence[Row], rules: Sequence[Rule] | None) -> Decision:
    """What a class that marks makes of a picture."""
    if rules is None:
        own: Result = "NG" if one.verdict == "NG" else "REVIEW"
        return Decision(own, f"{one.name}: {one.verdict}, score {one.score:.4g}")
    if one.verdict != "not calibrated" and not one.share:
        return Decision("REVIEW", f"{one.name}: {one.verdict}, score {one.score:.4g}, without a mark")
    met = [Decision(rule.result, words) for rule in rules if (words := _met(rule, one, rows))]
    result = worst([each.result for each in met])
    if result == "OK":
        return Decision("OK", f"{one.name}: {_counted(len(rows))}, no rule is met")
    reason = f"{one.name}: {next(each.reason for each in met if each.result == result)}"
    if result == "NG" and one.verdict == "REVIEW":
        return Decision("REVIEW", f"{reason}, a mark that the class itself would have reviewed")
    return Decision(result, reason)


def _counted(count: int) -> str:
    return "1 defect" if count == 1 else f"{count or 'no'} defects"


def _met(rule: Rule, one: ClassVerdict, rows: Sequence[Row]) -> str:
    """Why a rule is met; empty: it isn't."""
    if rule.score is not None and one.score < rule.score:
        return ""
    found = [words for row in rows if (words := "any" if rule.when is None else _holds(rule.when, row))]
    if len(found) < rule.count:
        return ""
    said = [] if rule.score is None else [f"score {one.score:.4g} >= {rule.score:g}"]
    if rule.count > 1 or rule.when is None:
        said.append(_counted(len(found)) + (f" >= {rule.count}" if rule.count > 1 else ""))
    return ", ".join(said if rule.when is None else [*said, found[0]])


def _holds(condition: Condition, row: Row) -> str:
    """Why a defect meets a condition; empty: it doesn't."""
    said = ""
    for joint, words in _parts(condition, row):
        if not words:
            return ""
        said = f"{said}{joint}{words}" if said else words
    return said


def _parts(condition: Condition, row: Row) -> Iterator[tuple[str, str]]:
    """Of each part of a condition, how it follows others and why it is met; empty for one that isn't."""
    for name, least in condition.measures.items():
        yield " and ", _compared(*_known(name, row), least)
    for inner in condition.every or ():
        yield " and ", _holds(inner, row)
    if condition.some is not None:
        yield " and ", next((words for inner in condition.some if (words := _holds(inner, row))), "")
    if condition.touches_border is not None:
        words = "at the border" if condition.touches_border else "clear of the border"
        yield " ", words if row["touches_border"] == condition.touches_border else ""
    for region in (condition.region, condition.rectangle and condition.rectangle.words):
        if region is not None:
            yield " ", f"in region {region}" if region in row["regions"].split() else ""


def _known(name: str, row: Row) -> tuple[str, float]:
    """A measure by name, or what stands in for it: a defect that grows wide would else meet less than a thin one."""
    what, _, unit = name.rpartition("_")
    other = f"{INSTEAD[what]}_{unit}" if what in INSTEAD else name
    value = float(row[name])
    return (other, float(row[other])) if math.isnan(value) else (name, value)


def _compared(name: str, value: float, least: float) -> str:
    """Words where ``value`` reaches ``least``; one that is not known (NaN) never does."""
    what, _, ending = name.rpartition("_")
    unit = UNITS.get(ending, "")
    words = (what if unit else name).replace("_", " ")
    return f"{words} {value:.4g}{unit} >= {least:g}{unit}" if value >= least else ""
