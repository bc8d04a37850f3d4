"""The paper's tables as commands: which cells, what is written into params.yaml, what MLflow is told."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from flows import tables
from lerenet.cells import Cell
from lerenet.errors import ParamsError
from lerenet.models.config import recipe_network
from lerenet.params import load_params
from lerenet.tracking import runs, stage_run, store
from tests.helpers import PROJECT

OURS = load_params(PROJECT / "params.yaml")
TEXT = """\
# the head
seed: 0 # of folds
init: imagenet # or random

grid: # what runs
  folds: [fold0, fold1, fold2]   # three
  splits: [fold0, fold1, fold2, all]
  recipes: [lerenet]
train: {epochs: 3, lr: 0.00010}
recipes:
  lerenet:
    model: {name: lerenet, preset: default}
  # the long one
  paper:
    model: {name: lerenet, preset: paper}
    train: {epochs: 200, batch: 2, optimizer: sgd, lr: 0.005, loss: bce, clean_share: 0.0, weight_decay: 0.0001, momentum: 0.9}
tables:
  table3: {recipes: [lerenet, paper], shots: [1, 5], seeds: [0, 1]} # two
"""  # noqa: E501


@pytest.fixture
def params_file(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    return path


# -- which cells ----------------------------------------------------------------------------------


def test_a_table_is_the_product_of_its_lists(params_file: Path) -> None:
    table = tables.choose(load_params(params_file), "table3")
    keys = [cell.key for cell in tables.cells(table)]
    assert len(keys) == len(set(keys)) == 3 * 1 * 2 * 2 * 2
    assert keys[0] == "fold0-efficientnet_lite0-lerenet-1-0"
    assert keys[-1] == "fold2-efficientnet_lite0-paper-5-1"


def test_the_command_line_narrows_a_table(params_file: Path) -> None:
    table = tables.choose(
        load_params(params_file),
        "table3",
        backbones=["resnet50"],
        folds=["fold2"],
        shots=[1],
        seeds=[],
        recipes=[],
    )
    assert [cell.key for cell in tables.cells(table)] == [
        f"fold2-resnet50-{recipe}-1-{seed}" for recipe in ("lerenet", "paper") for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("name", "narrowed", "said"),
    [
        ("table9", {}, r"no table 'table9'.*table3"),
        ("table3", {"recipes": ["nope"]}, r"recipe 'nope'.*lerenet"),
        ("table3", {"folds": ["fold7"]}, r"--folds.*fold7"),
        ("table3", {"backbones": ["../x"]}, r"--backbones"),
        ("table3", {"shots": [3]}, r"no episodes with 3 support images"),
        ("table3", {"seeds": [-1]}, r"--seeds"),
    ],
)
def test_what_is_not_known_is_refused(params_file: Path, name: str, narrowed: Any, said: str) -> None:
    with pytest.raises(ParamsError, match=f"(?s){said}"):
        tables.choose(load_params(params_file), name, **narrowed)


def test_a_table_of_unknown_recipes_or_keys_is_refused(params_file: Path) -> None:
    for bad, said in (
        ("recipes: [nope]", "tables.table3: recipe 'nope'"),
        ("recipe: [lerenet]", "unknown key"),
    ):
        params_file.write_text(
            TEXT.replace("{recipes: [lerenet, paper], shots: [1, 5], seeds: [0, 1]}", f"{{{bad}}}")
        )
        with pytest.raises(ParamsError, match=said):
            load_params(params_file)


def test_the_projects_tables_are_the_papers() -> None:
    assert set(OURS.tables) == {"summary", "table2", "table3", "table4", "table6", "table7"}
    assert OURS.tables["table2"].backbones == ("vgg16", "resnet50")
    assert OURS.tables["table4"].backbones == ("resnet101",)
    switches = {
        name: (model.mpr, model.mpe, model.mpe and model.edge)
        for name in OURS.tables["table3"].recipes
        if (model := recipe_network(OURS, name)).name == "lerenet"
    }
    assert switches == {
        "none": (False, False, False),
        "mpr": (True, False, False),
        "mpe": (False, True, False),
        "mpe_star": (False, True, True),
        "mpr_mpe": (True, True, False),
        "lerenet": (True, True, True),
    }
    assert [OURS.recipes[name].pretrained for name in OURS.tables["table6"].recipes] == [False, True]
    losses = {OURS.train_settings(name).loss for name in OURS.tables["table7"].recipes}
    assert losses == {"bce", "focal", "dice", "bce_dice"}


def test_no_two_recipes_are_the_same() -> None:
    whole = {
        name: (recipe.model, OURS.train_settings(name), recipe.pretrained)
        for name, recipe in OURS.recipes.items()
    }
    for (first, a), (second, b) in itertools.combinations(whole.items(), 2):
        assert a != b, f"{first} and {second}: a table can use {first}"


# -- params.yaml ----------------------------------------------------------------------------------


def test_the_grid_is_set_and_nothing_else_is_touched(params_file: Path) -> None:
    table = tables.choose(load_params(params_file), "table3", folds=["fold1"], seeds=[2])
    said = tables.set_grid(params_file, table)
    assert "\n" not in said
    assert "git checkout" in said
    params = load_params(params_file)
    assert params.grid.model_dump() == {**table.model_dump(), "splits": ("fold1",)}
    before, after = TEXT.splitlines(), params_file.read_text().splitlines()
    assert [line for line in before if line not in after] == before[5:8]
    assert "  folds: [fold1]                 # three" in after


def test_setting_the_same_grid_again_leaves_the_file_alone(params_file: Path) -> None:
    table = tables.choose(load_params(params_file), "table3")
    tables.set_grid(params_file, table)
    stat, text = params_file.stat(), params_file.read_text()
    tables.set_grid(params_file, table)
    assert (params_file.stat().st_ino, params_file.read_text()) == (stat.st_ino, text)


def test_the_projects_own_file_keeps_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    original = (PROJECT / "params.yaml").read_text()
    path.write_text(original)
    tables.set_grid(path, tables.choose(OURS, "table7"))
    changed = path.read_text()

    def outside(text: str) -> str:
        return text[: text.index("\ngrid:")] + text[text.index("\nship:") :]

    assert outside(changed) == outside(original)
    assert load_params(path).grid.recipes == OURS.tables["table7"].recipes


def test_epochs_reach_recipes_that_set_their_own(params_file: Path) -> None:
    table = tables.choose(load_params(params_file), "table3")
    said = tables.set_grid(params_file, table, epochs=1, init="random")
    params = load_params(params_file)
    assert [params.train_settings(name).epochs for name in ("lerenet", "paper")] == [1, 1]
    assert params.train_settings("paper").lr == 0.005
    assert params.init == "random"
    assert all(part in said for part in ("train.epochs 1", "recipes.paper.train.epochs 1", "init random"))


def test_a_value_that_is_not_allowed_leaves_the_file_alone(params_file: Path) -> None:
    with pytest.raises(ParamsError, match="epochs"):
        tables.set_grid(params_file, tables.choose(load_params(params_file), "table3"), epochs=0)
    assert params_file.read_text() == TEXT
    assert list(params_file.parent.iterdir()) == [params_file]


# -- the command ----------------------------------------------------------------------------------


def test_dry_prints_the_cells_and_changes_nothing(params_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(params_file.parent)
    words = ["table3", "--folds", "fold0", "fold2", "--seeds", "1", "--shots", "5", "--dry"]
    done = CliRunner().invoke(tables.app, words)
    assert done.exit_code == 0
    assert done.output.split() == [
        f"{fold}-efficientnet_lite0-{recipe}-5-1"
        for fold in ("fold0", "fold2")
        for recipe in ("lerenet", "paper")
    ]
    assert params_file.read_text() == TEXT


def test_the_help_needs_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys, flows.tables; print({'prefect', 'torch', 'mlflow', 'pandas', 'dvc'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_a_user_error_has_status_2(
    params_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(params_file.parent)
    monkeypatch.setattr(sys, "argv", ["tables", "table9"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as stopped:
        tables.main()
    assert stopped.value.code == 2
    assert "table9" in capsys.readouterr().err


def test_it_is_not_run_inside_dvc(project: Path, params_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train")
    params = load_params(params_file)
    with pytest.raises(RuntimeError, match="DVC's stage"):
        tables.run_table("table3", tables.choose(params, "table3"), params)


# -- MLflow ---------------------------------------------------------------------------------------


def evaluated(cell: Cell, run_id: str, miou: float) -> None:
    rows = [
        {
            "protocol": protocol,
            "shots": shots,
            "miou": miou + shots,
            "miou_low": 0.0,
            "miou_high": 1.0,
            "fb_iou": 60.0,
            "fb_iou_low": 50.0,
            "fb_iou_high": 70.0,
        }
        for protocol in ("groups", "paper")
        for shots in (1, 5)
    ]
    folder = Path("artifacts/evaluate") / cell.key
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(rows))
    for stage in ("train", "evaluate"):
        path = Path("artifacts") / stage / cell.key / "run.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"mlflow_run_id": f"{stage}-{run_id}"}))


def test_cells_are_children_of_the_tables_run_and_old_ones_are_linked(
    project: Path, params_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params(params_file)
    table = tables.choose(params, "table3", folds=["fold0", "fold1"], shots=[5])
    for place, cell in enumerate(tables.cells(table)):
        evaluated(cell, str(place), 10.0 * place)
    called = []

    def stand_in(*stages: str, single: bool = False) -> str:
        called.append((stages, single))
        if not single:
            with stage_run("train", "k", Path("out"), params, settings={}):
                pass
        return ""

    monkeypatch.setattr("flows.dvc.repro", stand_in)
    tables.run_table("table3", table, params)
    assert called == [(("evaluate", "floors"), False), (("report",), True)]
    client = store.client_of()
    parent = client.get_run(json.loads(Path(".checkpoints/table3/run.json").read_text())["mlflow_run_id"])
    child = client.get_run(json.loads(Path("out/run.json").read_text())["mlflow_run_id"])
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "mlflow.parentRunId" not in parent.data.tags
    assert parent.info.run_name == "table3"
    assert parent.data.metrics["lerenet.5shot.miou"] == pytest.approx((0 + 10 + 40 + 50) / 4 + 5)
    assert parent.data.metrics["paper.5shot.miou"] == pytest.approx((20 + 30 + 60 + 70) / 4 + 5)
    path = client.download_artifacts(parent.info.run_id, "scores.csv", str(project))
    rows = pd.read_csv(path)
    assert rows["train_run_id"].tolist() == [f"train-{place}" for place in range(8)]
    assert rows["cell"].tolist() == [cell.key for cell in tables.cells(table)]


def test_without_a_tracker_the_table_runs(
    project: Path, params_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params(params_file)
    table = tables.choose(params, "table3", folds=["fold0"], shots=[1], seeds=[0])
    for cell in tables.cells(table):
        evaluated(cell, "1", 10.0)
    seen: list[str | None] = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("flows.dvc.repro", lambda *_, **__: seen.append(runs.os.environ.get(runs.PARENT)))
    tables.run_table("table3", table, params)
    assert seen == [None, None]
    assert Path(".checkpoints/table3/scores.csv").exists()


def test_several_backbones_have_names_of_their_own() -> None:
    rows = pd.DataFrame(
        [("a", "vgg16", 1, "fold0", 10.0, 1.0), ("a", "resnet50", 1, "fold0", 20.0, 2.0)],
        columns=["recipe", "backbone", "shots", "split", "miou", "fb_iou"],
    )
    assert tables.means(rows) == {
        "a-vgg16.1shot.miou": 10.0, "a-vgg16.1shot.fb_iou": 1.0,
        "a-resnet50.1shot.miou": 20.0, "a-resnet50.1shot.fb_iou": 2.0,
    }  # fmt: skip
