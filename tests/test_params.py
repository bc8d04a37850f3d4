"""Settings are checked key by key, and the message says which key and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from lerenet.cells import Cell, parse_base
from lerenet.errors import ParamsError
from lerenet.params import Params, load_params
from tests.helpers import PROJECT


def test_the_projects_own_file_holds_the_defaults() -> None:
    written = load_params(PROJECT / "params.yaml").model_dump(exclude={"recipes", "tables"})
    assert written == Params().model_dump(exclude={"recipes", "tables"})


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_the_projects_own_file_holds_every_key_and_is_valid() -> None:
    import yaml

    raw = yaml.safe_load((PROJECT / "params.yaml").read_text())
    params = load_params(PROJECT / "params.yaml")
    assert set(raw) == set(Params.model_fields)
    for section in (
        "grid",
        "ship",
        "validation",
        "episodes",
        "views",
        "pretrain",
        "train",
        "evaluation",
        "drift",
        "gate",
    ):
        assert set(raw[section]) == set(type(getattr(params, section)).model_fields), section


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {epocs: 3}", r"train\.epocs: unknown key; allowed: .*epochs"),
        ("train: {lr: -1}", r"train\.lr: .*greater than 0 \(got -1\)"),
        ("foo: 1", r"foo: unknown key; allowed: .*episodes"),
        ("grid: {recipes: [nope]}", "'nope' is used but not defined"),
        ("episodes: {shots: [9]}", r"episodes\.shots\.0: .*less than or equal to 5"),
        ("recipes: {lerenet: {train: {epocs: 1}}}", "epocs"),
        ("grid: {backbones: ['../x']}", r"grid\.backbones\.0: .*pattern"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_bad_file_is_refused_with_the_key(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ParamsError, match=expected):
        load_params(write(tmp_path, text))


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="not found"):
        load_params(tmp_path / "params.yaml")


def test_the_published_recipes_train_with_cross_entropy() -> None:
    params = load_params(PROJECT / "params.yaml")
    official = [name for name in params.recipes if name.endswith("_official")]
    assert {params.train_settings(name).loss for name in ("paper", "authors", *official)} == {"bce"}


def test_a_recipe_overrides_only_what_it_names(tmp_path: Path) -> None:
    params = load_params(write(tmp_path, "train: {lr: 0.5}\nrecipes: {lerenet: {train: {batch: 2}}}"))
    assert params.train_settings("lerenet").batch == 2
    assert params.train_settings("lerenet").lr == 0.5


def test_cell_keys_round_trip_and_bad_ones_are_refused() -> None:
    cell = Cell("fold1", "resnet50", "lerenet", 5, 2)
    assert Cell.parse(cell.key) == cell
    assert parse_base(cell.base) == ("fold1", "resnet50")
    for bad in ("fold1", "fold1-a-b-1", "fold1-a-b-x-0", "../x-a-b-1-0"):
        with pytest.raises(ParamsError):
            Cell.parse(bad)
    with pytest.raises(ParamsError):
        parse_base("fold0-../../etc")
