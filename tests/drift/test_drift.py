"""The drift summary finds what changed between two catalogues, and nothing where nothing did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from lerenet.cli.data import app
from lerenet.data.catalog import load_catalog
from lerenet.data.cataloguing import build_catalog
from lerenet.drift.compare import drift_summary, load_profiled
from lerenet.drift.markdown import drift_markdown, shifted
from lerenet.drift.profile import profile_images
from lerenet.params import DriftSettings
from tests.helpers.arrivals import arrive, catalogue
from tests.helpers.factories import tiny_dataset

SETTINGS = DriftSettings()
STATS = ("foreground", "area", "brightness", "contrast", "embedding")


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from(["A", "B", "C"]), st.integers(1, 15), min_size=1))
def test_a_catalogue_does_not_drift_from_itself(counts: dict[str, int]) -> None:
    frame = catalogue(counts)
    summary = drift_summary(frame, frame, SETTINGS)
    assert not summary["changed"]
    assert summary["shifts"] == []
    assert "same" in drift_markdown(summary)


def test_added_removed_and_replaced() -> None:
    old, new = catalogue({"A": 10, "B": 10}), catalogue({"B": 12, "C": 3})
    new.loc[new["image"] == "B/Images/0.jpg", "sha256"] = "other"
    new.loc[new["image"] == "B/Images/1.jpg", "mask_sha256"] = "other"
    summary = drift_summary(old, new, SETTINGS)
    assert summary["changed"]
    assert (summary["classes_added"], summary["classes_removed"]) == (["C"], ["A"])
    assert summary["images_replaced"] == ["B/Images/0.jpg", "B/Images/1.jpg"]
    assert "B/Images/11.jpg" in summary["images_added"]
    assert len(summary["images_removed"]) == 10
    text = drift_markdown(summary)
    assert "Classes added: C." in text
    assert "| B | 8 to 10 | 4 | 2 |" in text
    assert "(too few)" in text


@pytest.mark.parametrize(
    ("stat", "changed"),
    [("foreground", {"share": 0.5}), ("area", {"width": 300}), ("brightness", {"brightness": 0.8}),
     ("contrast", {"contrast": 0.35}), ("embedding", {"embedding": 2.0})],
)  # fmt: skip
def test_a_shift_is_found_in_its_class_and_statistic_only(stat: str, changed: dict[str, float]) -> None:
    """A dozen odd images show beside a hundred old ones, which an all-against-all test would drown."""
    old = catalogue({"A": 125, "B": 125})
    more = pd.concat([catalogue({"A": 15}, seed=1), catalogue({"B": 15}, seed=2, **changed)])  # type: ignore[arg-type]
    summary = drift_summary(old, arrive(old, more), SETTINGS)
    assert summary["shifts"] == [("B", stat)]
    assert shifted(summary) == f"B: {stat}"
    rows = {row["cls"]: row for row in summary["classes"]}
    assert rows["B"]["came"] == 12
    assert rows["B"][stat]["p"] < 0.01 < rows["A"][stat]["p"]
    text = drift_markdown(summary)
    assert f"Shifted: B: {stat}." in text
    assert text.count("**p ") == 1
    json.dumps(summary, allow_nan=False)


def test_p_values_are_corrected_for_the_number_of_classes() -> None:
    """The same difference stands out alone, and no longer among forty classes without one."""
    names = [f"C{number:02}" for number in range(40)]
    old = catalogue(dict.fromkeys(names, 25)).drop(columns="embedding")
    odd = catalogue({"C00": 10}).drop(columns="embedding")
    odd["brightness"] = np.where(odd["group"].isin(["C00/0", "C00/1"]), 0.0, 0.9)  # 6 of 8 above all old ones
    alone = drift_summary(old[old["cls"] == "C00"], arrive(old[old["cls"] == "C00"], odd), SETTINGS)
    others = catalogue(dict.fromkeys(names[1:], 10), seed=3).drop(columns="embedding")
    among = drift_summary(old, arrive(old, pd.concat([odd, others])), SETTINGS)
    ps = [summary["classes"][0]["brightness"]["p"] for summary in (alone, among)]
    assert ps[0] < 0.01 < ps[1]


def test_chance_alone_is_seldom_called_a_shift() -> None:
    """Of 10 comparisons without a difference, twelve classes each, hardly any calls one."""
    names = [f"C{number:02}" for number in range(12)]
    found = 0
    for seed in range(10):
        frame = catalogue(dict.fromkeys(names, 30), seed=seed).drop(columns="embedding")
        old = frame[frame["group"].str.split("/").str[1].astype(int) < 15]
        found += bool(drift_summary(old, frame, SETTINGS)["shifts"])
    assert found <= 1  # 1 or fewer of 10 at a rate of 1 %: 99.6 %


def test_images_of_one_group_count_once() -> None:
    """Ten exposures of one bright part are one draw, not ten."""
    old, more = catalogue({"A": 50}), catalogue({"A": 25}, brightness=0.8)
    more["group"] = "A/part"
    row = drift_summary(old, arrive(old, more), SETTINGS)["classes"][0]
    assert row["came"] == 20
    assert row["brightness"]["p"] is None


def test_a_small_difference_is_no_shift_however_sure() -> None:
    old, more = catalogue({"A": 2500}), catalogue({"A": 2500}, brightness=0.51, seed=1)
    frames = old.drop(columns="embedding"), arrive(old, more).drop(columns="embedding")
    row = drift_summary(*frames, SETTINGS)["classes"][0]["brightness"]
    assert row["p"] < 0.01
    assert not row["shift"]
    assert drift_summary(*frames, DriftSettings(min_ks=0.05))["shifts"] == [("A", "brightness")]


def test_small_classes_and_catalogues_without_a_profile_have_no_p_value() -> None:
    new = catalogue({"A": 30})
    row = drift_summary(catalogue({"A": 3}), new, SETTINGS)["classes"][0]
    assert row["foreground"]["p"] is None
    json.dumps(drift_summary(catalogue({}), new, SETTINGS), allow_nan=False)
    bare = new.drop(columns=["brightness", "contrast", "embedding"])
    row = drift_summary(bare, arrive(bare, catalogue({"A": 30}, seed=1)), SETTINGS)["classes"][0]
    assert [row[stat]["p"] is None for stat in STATS] == [False, False, True, True, True]
    assert row["brightness"]["median_old"] is None
    drift_markdown(drift_summary(bare, arrive(bare, new), SETTINGS))


def test_the_command_compares_folders_and_catalogues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Darker images of one class are said, with status 1; without a difference the status is 0."""
    monkeypatch.chdir(tmp_path)
    old = tiny_dataset(tmp_path / "old", classes=3, defect=40, clean=0, size=32)
    new = tiny_dataset(tmp_path / "new", classes=3, defect=40, clean=0, size=32, seed=1)
    (tmp_path / "params.yaml").write_text("drift: {alpha: 0.001}")
    run = CliRunner().invoke
    done = run(app, ["drift", "old", "new", "--no-embeddings"])
    assert (done.exit_code, "Shifted: nothing." in done.output) == (0, True), done.output
    for path in (new / "C01" / "Images").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 2).save(path)
    build_catalog(old, tmp_path / "catalog.parquet")
    assert "brightness" not in load_profiled(tmp_path / "catalog.parquet")
    profile_images(load_catalog(tmp_path / "catalog.parquet"), old, embeddings=False).to_parquet(
        "profile.parquet"
    )
    done = run(app, ["drift", "catalog.parquet", "new", "--no-embeddings"])
    assert done.exit_code == 1
    assert "Shifted: C01: " in done.output
    assert "brightness" in done.output.split("Shifted: C01: ")[1].split(".")[0]


def test_the_embedding_tells_other_images_from_the_same_again(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", classes=2, defect=2, clean=1)
    catalog = build_catalog(data, tmp_path / "catalog.parquet")
    first, again = (profile_images(catalog, data) for _ in range(2))
    assert len(first) == 4  # the clean images are not profiled
    vectors = np.stack(list(first["embedding"]))
    assert vectors.shape == (4, 320)
    assert np.array_equal(vectors, np.stack(list(again["embedding"])))
    same, other = (np.linalg.norm(vectors[0] - vectors[i]) for i in (1, 2))
    assert 0 < same < other
