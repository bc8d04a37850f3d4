"""The drift summary finds what changed between two catalogues, and nothing where nothing did."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerenet.data.drift import drift_markdown, drift_summary


def catalogue(counts: dict[str, int], share: float = 0.1, width: int = 100) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {
            "image": f"{cls}/Images/{n}.jpg",
            "cls": cls,
            "kind": "clean" if n % 5 == 4 else "defect",
            "width": width,
            "height": 80,
            "foreground": share * float(rng.uniform(0.5, 1.5)),
            "sha256": f"{cls}{n}",
            "mask_sha256": f"mask{cls}{n}",
        }
        for cls, count in counts.items()
        for n in range(count)
    ]
    columns = ["image", "cls", "kind", "width", "height", "foreground", "sha256", "mask_sha256"]
    return pd.DataFrame(rows, columns=columns)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from(["A", "B", "C"]), st.integers(1, 15), min_size=1))
def test_a_catalogue_does_not_drift_from_itself(counts: dict[str, int]) -> None:
    frame = catalogue(counts)
    summary = drift_summary(frame, frame)
    assert not summary["changed"]
    assert not any(row[stat]["shift"] for row in summary["classes"] for stat in ("foreground", "area"))
    assert "same" in drift_markdown(summary)


def test_added_removed_and_replaced() -> None:
    old, new = catalogue({"A": 10, "B": 10}), catalogue({"B": 12, "C": 3})
    new.loc[new["image"] == "B/Images/0.jpg", "sha256"] = "other"
    new.loc[new["image"] == "B/Images/1.jpg", "mask_sha256"] = "other"
    summary = drift_summary(old, new)
    assert summary["changed"]
    assert (summary["classes_added"], summary["classes_removed"]) == (["C"], ["A"])
    assert summary["images_replaced"] == ["B/Images/0.jpg", "B/Images/1.jpg"]
    assert "B/Images/11.jpg" in summary["images_added"]
    assert len(summary["images_removed"]) == 10
    text = drift_markdown(summary)
    assert "Classes added: C." in text
    assert "| B | 8 to 10 | 2 |" in text
    assert "too few images" in text


@pytest.mark.parametrize(("stat", "changed"), [("foreground", {"share": 0.5}), ("area", {"width": 300})])
def test_a_shift_is_found_in_its_class_only(stat: str, changed: dict[str, float]) -> None:
    old = catalogue({"A": 20, "B": 20})
    other = catalogue({"A": 20, "B": 20}, **changed)  # type: ignore[arg-type]
    new = pd.concat([old[old["cls"] == "A"], other[other["cls"] == "B"]], ignore_index=True)
    new["sha256"] += "x"
    rows = {row["cls"]: row[stat] for row in drift_summary(old, new)["classes"]}
    assert rows["B"]["shift"]
    assert rows["B"]["p"] < 0.01
    assert not rows["A"]["shift"]
    assert "shifted" in drift_markdown(drift_summary(old, new))


def test_small_classes_have_no_p_value_and_json_holds_it() -> None:
    summary = drift_summary(catalogue({"A": 3}), catalogue({"A": 30}))
    assert summary["classes"][0]["foreground"]["p"] is None
    json.dumps(summary, allow_nan=False)
    json.dumps(drift_summary(catalogue({}), catalogue({"A": 30})), allow_nan=False)
