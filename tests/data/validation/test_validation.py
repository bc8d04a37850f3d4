"""The gate names each bad row, keeps its pages and result, and passes what is sound."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerenet.data.folds import digest_of, make_episodes, make_splits
from lerenet.data.validation.catalog_checks import twins
from lerenet.data.validation.runner import validate_catalog, validate_folds
from lerenet.errors import DataError
from lerenet.params import EpisodeSettings, ValidationSettings

CLASSES = [f"Class_{letter}" for letter in "abcdef"]
SHOTS = (1, 2)
LIMITS = ValidationSettings(min_images=4)
DRAWN = EpisodeSettings(shots=SHOTS, per_query=2, validation_classes=1)


def row(cls: str, number: int, kind: str = "defect") -> dict[str, Any]:
    """One sound catalogue row; hashes differ in many bits."""
    folder, index = ("Images", number) if kind == "defect" else ("Nd", 100 + number)
    seed = (CLASSES.index(cls) * 1000 + index) * 0x9E3779B97F4A7C15 % 2**64
    return {
        "image": f"{cls}/{folder}/{number}.jpg",
        "mask": f"{cls}/GT/{number}.png" if kind == "defect" else "",
        "cls": cls,
        "fold": CLASSES.index(cls) // 2,
        "kind": kind,
        "group": f"{cls}/{index // 2}",
        "width": 64,
        "height": 48,
        "mask_width": 64 if kind == "defect" else 0,
        "mask_height": 48 if kind == "defect" else 0,
        "mask_binary": True,
        "foreground": 0.25 if kind == "defect" else 0.0,
        "sha256": f"{seed:064x}",
        "mask_sha256": f"{seed:064x}" if kind == "defect" else "",
        "phash": f"{seed:016x}",
    }


def sound() -> pd.DataFrame:
    """Six classes in three folds, eight defect images in four groups each, two clean images."""
    kinds = [("defect", 8), ("clean", 2)]
    rows = [row(cls, n, kind) for cls in CLASSES for kind, count in kinds for n in range(count)]
    return pd.DataFrame(rows).sort_values("image", ignore_index=True)


@pytest.fixture
def catalog() -> pd.DataFrame:
    return sound()


def change(frame: pd.DataFrame, image: str, **values: Any) -> None:
    for column, value in values.items():
        frame.loc[frame["image"] == image, column] = value


def found(out: Path, words: str) -> dict[str, Any]:
    """The one expectation whose sentence holds ``words``."""
    result = json.loads((out / "result.json").read_text())
    (item,) = [item for item in result["expectations"] if words in item["sentence"]]
    return item


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The result of a sound catalogue, and what was written."""
    out = tmp_path_factory.mktemp("passed")
    return validate_catalog(sound(), LIMITS, SHOTS, out), out


def test_sound_catalogue_passes_and_keeps_pages(passed: tuple[dict[str, Any], Path]) -> None:
    result, out = passed
    assert result["success"]
    assert (result["failed"], result["warnings"]) == (0, 0)
    assert json.loads((out / "result.json").read_text()) == result
    pages = sorted(out.glob("docs/**/*.html"))
    assert {"index.html", "images.html", "classes.html"} <= {page.name for page in pages}
    for page in pages:
        text = page.read_text()
        assert "http" not in re.sub(r"<(title|h1)>.*?</\1>", "", text), page
        for link in re.findall(r'href="([^"#]+)"', text):
            assert (page.parent / link).is_file(), (page, link)
    assert sorted(path.name for path in out.iterdir()) == ["docs", "result.json"]


def test_result_is_the_same_for_the_same_catalogue(
    passed: tuple[dict[str, Any], Path], catalog: pd.DataFrame, tmp_path: Path
) -> None:
    validate_catalog(catalog, LIMITS, SHOTS, tmp_path)
    assert (tmp_path / "result.json").read_bytes() == (passed[1] / "result.json").read_bytes()


BROKEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "SHA-256": ("Class_a/Images/0.jpg", {"sha256": "xyz"}, "xyz"),
    "has a perceptual hash": ("Class_a/Images/1.jpg", {"phash": "12"}, "12"),
    "at least 16 pixels": (
        "Class_a/Images/2.jpg",
        {"width": 9, "height": 99, "mask_width": 9, "mask_height": 99},
        "9",
    ),
    "same bytes": ("Class_a/Images/3.jpg", {"sha256": row("Class_c", 3)["sha256"]}, "Class_c/Images/3.jpg"),
    "no defect image is a near-duplicate": (
        "Class_a/Images/4.jpg",
        {"phash": row("Class_c", 4)["phash"]},
        "Class_c/Images/4.jpg",
    ),
    "has a mask": ("Class_a/Images/5.jpg", {"mask": ""}, ""),
    "0 and 255": ("Class_a/Images/6.jpg", {"mask_binary": False}, "False"),
    "as large as": ("Class_a/Images/7.jpg", {"mask_height": 24}, "64 x 48 / 64 x 24"),
    "at least one pixel": ("Class_b/Images/0.jpg", {"foreground": 0.0}, "0"),
    "marks between": ("Class_b/Images/1.jpg", {"foreground": 0.99}, "0.99"),
    "group belongs": ("Class_b/Images/2.jpg", {"group": "Class_e/1"}, "Class_b / Class_e"),
    "fold 0, 1 or 2": ("Class_b/Images/3.jpg", {"fold": 7}, "7"),
    "clean image has no mask": ("Class_b/Nd/0.jpg", {"mask": "Class_b/GT/0.png"}, "Class_b/GT/0.png"),
    "no foreground": ("Class_b/Nd/1.jpg", {"foreground": 0.5}, "0.5"),
    "defect image or a clean one": ("Class_d/Images/0.jpg", {"kind": "odd"}, "odd"),
    "letters, digits": ("Class_d/Images/1.jpg", {"cls": "../x", "group": "../1"}, "../x"),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A catalogue with every row-wise fault at once: its output folder and the error's message."""
    out = tmp_path_factory.mktemp("broken")
    kinds = [("defect", 8), ("clean", 2)]
    frame = pd.DataFrame(
        [row(cls, n, kind) for cls in CLASSES for kind, count in kinds for n in range(count)]
    )
    for image, values, _ in BROKEN.values():
        change(frame, image, **values)
    frame = pd.concat([frame, frame[frame["image"] == "Class_f/Images/7.jpg"]], ignore_index=True)
    with pytest.raises(DataError) as error:
        validate_catalog(frame, LIMITS, SHOTS, out)
    return out, str(error.value)


@pytest.mark.parametrize("words", BROKEN)
def test_each_fault_names_its_row(broken: tuple[Path, str], words: str) -> None:
    out, message = broken
    image, _, value = BROKEN[words]
    item = found(out, words)
    assert not item["success"]
    assert {"image": image, "value": value} in item["rows"]
    assert item["sentence"] in message
    assert item["remedy"] in message
    assert f"{image}: {value}" in message


def test_both_sides_of_a_pair_are_named(broken: tuple[Path, str]) -> None:
    rows = found(broken[0], "no defect image is a near-duplicate")["rows"]
    assert {"image": "Class_c/Images/4.jpg", "value": "Class_a/Images/4.jpg"} in rows


def test_an_image_listed_twice_is_named(broken: tuple[Path, str]) -> None:
    rows = found(broken[0], "listed once")["rows"]
    assert [item["image"] for item in rows] == ["Class_f/Images/7.jpg"] * 2


def test_failing_rows_are_on_the_page(broken: tuple[Path, str]) -> None:
    page = (broken[0] / "docs/index.html").read_text()
    assert "Class_a/Images/7.jpg: 64 x 48 / 64 x 24" in page
    assert "Failed" in page


def test_class_checks(catalog: pd.DataFrame, tmp_path: Path) -> None:
    keep = catalog[(catalog["cls"] != "Class_a") | catalog["image"].isin(["Class_a/Images/0.jpg"])].copy()
    keep.loc[(keep["cls"] == "Class_b"), "group"] = "Class_b/one"
    change(keep, "Class_c/Images/0.jpg", fold=2)
    keep.loc[keep["fold"] == 0, "fold"] = 1
    with pytest.raises(DataError, match="Class_a: 1"):
        validate_catalog(keep, LIMITS, SHOTS, tmp_path)
    assert found(tmp_path, "at least 4 defect images")["rows"] == [{"cls": "Class_a", "value": "1"}]
    groups = found(tmp_path, "at least 2 groups")["rows"]
    assert groups == [{"cls": "Class_a", "value": "1"}, {"cls": "Class_b", "value": "1"}]
    supports = found(tmp_path, "2-shot")["rows"]
    assert supports == [{"cls": "Class_a", "value": "0"}, {"cls": "Class_b", "value": "0"}]
    assert found(tmp_path, "every class is in one fold")["rows"] == [{"cls": "Class_c", "value": "2"}]
    assert found(tmp_path, "three folds")["observed"] == "2"


def test_schema_fault_stops_before_the_rest(catalog: pd.DataFrame, tmp_path: Path) -> None:
    odd = catalog.drop(columns="phash").astype({"fold": str}).assign(extra=1)
    with pytest.raises(DataError, match="phash") as error:
        validate_catalog(odd, LIMITS, SHOTS, tmp_path)
    assert "extra" in str(error.value)
    assert found(tmp_path, "fold is int64")["observed"] == "str"
    suites = {item["suite"] for item in json.loads((tmp_path / "result.json").read_text())["expectations"]}
    assert suites == {"schema"}


def test_empty_catalogue_fails(catalog: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one row; found: 0"):
        validate_catalog(catalog.head(0), LIMITS, SHOTS, tmp_path)


def test_lookalikes_that_only_warn(catalog: pd.DataFrame, tmp_path: Path) -> None:
    change(catalog, "Class_a/Images/0.jpg", phash=row("Class_a", 4)["phash"])  # other group, same class
    change(catalog, "Class_a/Nd/0.jpg", phash=row("Class_d", 0, "clean")["phash"])  # shared good part
    change(catalog, "Class_b/Images/0.jpg", phash=row("Class_b", 1)["phash"])  # same group: fine
    result = validate_catalog(catalog, LIMITS, SHOTS, tmp_path)
    assert result["success"]
    assert result["warnings"] == 2
    rows = found(tmp_path, "within a class share a group")["rows"]
    assert [item["image"] for item in rows] == ["Class_a/Images/0.jpg", "Class_a/Images/4.jpg"]


def test_only_twenty_rows_are_kept(catalog: pd.DataFrame, tmp_path: Path) -> None:
    catalog["mask_binary"] = False
    with pytest.raises(DataError, match="and 43 more"):
        validate_catalog(catalog, LIMITS, SHOTS, tmp_path)
    item = found(tmp_path, "0 and 255")
    assert (len(item["rows"]), item["failing"]) == (20, 48)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12), st.integers(0, 32))
def test_twins_agree_with_a_plain_loop(words: list[int], bits: int) -> None:
    partners = twins([f"{word:016x}" for word in words], bits)
    for i, partner in enumerate(partners):
        near = [j for j, word in enumerate(words) if j != i and (word ^ words[i]).bit_count() <= bits]
        assert partner == (near[0] if near else None)


# Folds


@pytest.fixture(scope="module")
def drawn_once() -> tuple[dict[str, Any], pd.DataFrame]:
    splits = make_splits(sound(), DRAWN, seed=0)
    episodes = make_episodes(sound(), splits, DRAWN, seed=0)
    return {"splits": splits, "digest": digest_of(episodes, sound())}, episodes


@pytest.fixture
def drawn(drawn_once: tuple[dict[str, Any], pd.DataFrame]) -> tuple[dict[str, Any], pd.DataFrame]:
    """Sound folds and episodes on the sound catalogue."""
    return copy.deepcopy(drawn_once)


Drawn = tuple[dict[str, Any], pd.DataFrame]


def test_sound_folds_pass(drawn: Drawn, catalog: pd.DataFrame, tmp_path: Path) -> None:
    folds, episodes = drawn
    path = tmp_path / "episodes.parquet"
    episodes.to_parquet(path)
    result = validate_folds(folds, pd.read_parquet(path), catalog, tmp_path / "out")
    assert result["success"]
    assert "http" not in (tmp_path / "out/docs/episodes.html").read_text()


def _support(frame: pd.DataFrame, episode: int, names: list[str]) -> None:
    frame.at[episode, "support"] = names


def _first(frame: pd.DataFrame, **wanted: Any) -> int:
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return int(frame.index[0])


FAULTS: dict[str, Callable[[pd.DataFrame, int], None]] = {
    "among its supports": lambda e, i: _support(e, i, [e.at[i, "query"]]),
    "in the catalogue": lambda e, i: _support(e, i, ["Class_a/Images/gone.jpg"]),
    "shows the query's class": lambda e, i: _support(e, i, ["Class_c/Images/0.jpg"]),
    "shows a defect": lambda e, i: _support(e, i, ["Class_a/Nd/0.jpg"]),
    "as many supports as shots": lambda e, i: _support(e, i, []),
    "comes twice": lambda e, i: _support(e, i, ["Class_a/Images/6.jpg"] * 2),
    "is of the query's group": lambda e, i: _support(e, i, ["Class_a/Images/1.jpg"]),
    "query's group is": lambda e, i: e.__setitem__(
        "query_group", e["query_group"].where(e.index != i, "Class_a/9")
    ),
    "for test or for validation": lambda e, i: e.__setitem__("role", e["role"].where(e.index != i, "train")),
}


@pytest.mark.parametrize("words", FAULTS)
def test_each_leak_names_its_episode(drawn: Drawn, catalog: pd.DataFrame, words: str) -> None:
    from lerenet.data.validation.episode_checks import episode_frame, fold_suites

    folds, episodes = drawn
    index = _first(episodes, query="Class_a/Images/0.jpg", protocol="groups", shots=1, role="test")
    FAULTS[words](episodes, index)
    suite = next(suite for suite in fold_suites(folds, episodes, catalog) if suite.name == "episodes")
    check = next(check for check in suite.checks if words in check.sentence)
    bad = episode_frame(folds, episodes, catalog).loc[index]
    column = [value for key, value in check.args.items() if key.startswith("column")]
    if check.type == "ExpectColumnValuesToBeNull":
        assert bad[column[0]] is not None
    elif check.type == "ExpectColumnPairValuesToBeEqual":
        assert bad[column[0]] != bad[column[1]]
    else:
        assert bad[column[0]] not in check.args["value_set"]


def test_leaks_are_told_with_episode_and_query(drawn: Drawn, catalog: pd.DataFrame, tmp_path: Path) -> None:
    folds, episodes = drawn
    index = _first(episodes, query="Class_a/Images/0.jpg", protocol="groups", shots=1, role="test")
    _support(episodes, index, ["Class_a/Images/1.jpg"])
    gone = episodes["query"].eq("Class_b/Images/3.jpg") & episodes["protocol"].eq("groups")
    with pytest.raises(DataError, match=r"Class_a/Images/0\.jpg: Class_a/Images/1\.jpg"):
        validate_folds(folds, episodes[~(gone & episodes["shots"].eq(2))], catalog, tmp_path)
    rows = found(tmp_path, "is of the query's group")["rows"]
    assert rows == [{"episode": str(index), "query": "Class_a/Images/0.jpg", "value": "Class_a/Images/1.jpg"}]
    missing = found(tmp_path, "every test image of a novel class is a query")["rows"]
    assert missing == [{"image": "Class_b/Images/3.jpg", "setting": "fold0, groups, 2 shot", "value": "0"}]
    assert not found(tmp_path, "digest")["success"]


def test_class_on_both_sides_is_named(drawn: Drawn, catalog: pd.DataFrame, tmp_path: Path) -> None:
    folds, episodes = drawn
    folds["splits"]["fold0"]["base"].append("Class_a")
    folds["splits"]["fold1"]["base"].append("Class_z")
    with pytest.raises(DataError):
        validate_folds(folds, episodes, catalog, tmp_path)
    rows = found(tmp_path, "only one of them")["rows"]
    assert rows == [{"entry": "fold0/Class_a", "value": "2"}]
    assert found(tmp_path, "every class of a split")["rows"][0]["entry"] == "fold1/Class_z"


def test_novel_class_of_another_fold_is_named(drawn: Drawn, catalog: pd.DataFrame, tmp_path: Path) -> None:
    folds, episodes = drawn
    split = folds["splits"]["fold2"]
    split["novel"].remove("Class_e")
    split["base"].append("Class_e")
    with pytest.raises(DataError, match="fold2/Class_e: base, but in fold 2"):
        validate_folds(folds, episodes, catalog, tmp_path)
    assert found(tmp_path, "test episodes show novel classes")["failing"] > 0


def test_folds_without_splits(drawn: Drawn, catalog: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no 'splits'"):
        validate_folds({}, drawn[1], catalog, tmp_path)


def test_of_known_classes_what_was_trained_on_is_neither_asked_nor_left_out(
    drawn: Drawn, catalog: pd.DataFrame
) -> None:
    from lerenet.data.folds import apart
    from lerenet.data.validation.episode_checks import episode_frame

    folds, episodes = drawn
    split, split_of = next(
        (name, value)
        for name, value in folds["splits"].items()
        if value["left_out"] is not None and (episodes["split"] == name).any()
    )
    index = _first(episodes, split=split)
    row = episodes.loc[index]
    own = catalog[(catalog["cls"] == row["cls"]) & (catalog["kind"] == row["kind"])]
    unseen = apart(own, split_of)
    episodes.at[index, "query"] = own.loc[~unseen, "image"].iloc[0]
    other = _first(episodes.drop(index), split=split)
    _support(episodes, other, [episodes.at[other, "query"]])
    frame = episode_frame(folds, episodes, catalog)
    assert frame.loc[index, "trained_on"] == episodes.at[index, "query"]
    assert frame.loc[other, "left_out"] == episodes.at[other, "query"]
    rest = frame.drop([index, other])
    assert rest["trained_on"].isna().all()
    assert rest["left_out"].isna().all()
