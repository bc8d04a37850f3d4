"""The paper's tables as commands: which cells, what an experiment changes, what MLflow is told."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from flows import dvc, tables
from lerenet.cells import Cell
from lerenet.errors import ParamsError
from lerenet.models.config import recipe_network
from lerenet.params import load_params
from lerenet.tracking import runs, stage_run, store
from tests.helpers import PROJECT
from tests.helpers.prefect_server import fresh, pipeline

__all__ = ["fresh", "pipeline"]  # fixtures

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
    assert len(keys) == len(set(keys)) == (3 + 4) * 1 * 2 * 2 * 2
    assert keys[0] == "fold0-efficientnet_lite0-lerenet-1-0"
    assert keys[-1] == "known3-efficientnet_lite0-paper-5-1"


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
    assert set(OURS.tables) == {"summary", "long", "table2", "table3", "table4", "table6", "table7"}
    for name in OURS.tables["long"].recipes:
        settings = OURS.train_settings(name)
        assert (settings.epochs, settings.watch) == (200, 5)
        assert recipe_network(OURS, name).stride_on("efficientnet_lite0") == 8
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


# -- the experiment's settings --------------------------------------------------------------------


def test_the_grid_is_the_tables_and_nothing_else_changes(params_file: Path) -> None:
    params = load_params(params_file)
    table = tables.choose(params, "table3", folds=["fold1"], seeds=[2])
    assert tables.settings_of(params, table) == {
        "grid.recipes": ("lerenet", "paper"),
        "grid.backbones": ("efficientnet_lite0",),
        "grid.folds": ("fold1",),
        "grid.splits": ("fold1",),
        "grid.shots": (1, 5),
        "grid.seeds": (2,),
    }


def test_epochs_reach_recipes_that_set_their_own_and_files_are_named_from_the_root(
    params_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(params_file.parent)
    Path("mine.safetensors").touch()
    params = load_params(params_file)
    found = tables.settings_of(params, tables.choose(params, "table3"), epochs=1, init="mine.safetensors")
    assert found["train.epochs"] == found["recipes.paper.train.epochs"] == 1
    assert "recipes.lerenet.train.epochs" not in found
    assert found["init"] == str(params_file.parent / "mine.safetensors")


AWKWARD = (
    "imagenet", "/a b/c.st", "it's", "/a\\b/w.st", "end\\", "\\'", "ünï", "null", "true", "1e3", "a\u00a0b", "[x]",
    "a=b,c", "",
)  # fmt: skip


@pytest.mark.parametrize("value", AWKWARD)
def test_dvc_reads_any_text_as_it_was_written(value: str, tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    path.write_text("init: x\nnames: []\n")
    apply_overrides(path, [f"init={dvc.written(value)}", f"names={dvc.written((value, 3))}"])
    assert yaml.safe_load(path.read_text()) == {"init": value, "names": [value, 3]}


def test_what_dvc_would_fill_in_is_refused() -> None:
    with pytest.raises(ParamsError, match="holds"):
        dvc.written("/x${y}/w.st")


@pytest.mark.parametrize(
    ("words", "said"), [(["--init", ""], "init: "), (["--recipes", "odd"], "preset: unknown key")]
)
def test_what_the_experiment_would_stumble_over_is_refused_before_it(
    params_file: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(params_file.parent)
    odd = "  odd:\n    model: {name: bam, preset: paper}\ntables:"
    params_file.write_text(TEXT.replace("tables:", odd))
    done = CliRunner().invoke(tables.app, ["table3", *words])
    assert isinstance(done.exception, ParamsError)
    assert said in str(done.exception)


@pytest.mark.whole
def test_an_experiment_leaves_the_project_alone_and_its_outputs_can_be_fetched(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real experiment of DVC on trivial stages, whose second call finds what the first one made."""
    monkeypatch.chdir(pipeline)
    text = (
        "stages:\n"
        "  train:\n"
        "    matrix: {recipe: '${grid.recipes}'}\n"
        "    cmd: mkdir -p out && echo $SHARED ${lr} > out/${key}.txt && echo ${key} >> $SHARED\n"
        "    deps: [seed.txt]\n"
        "    params: [lr]\n"
        "    outs: ['out/${key}.txt']\n"
    )
    settings = "grid:\n  recipes: [a]\nlr: 1\n"
    Path("dvc.yaml").write_text(text)
    Path("params.yaml").write_text(settings)
    Path("seed.txt").touch()
    for words in (["add", "-A"], ["commit", "-qm", "settings"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], check=True)
    subprocess.run(
        ["git", "branch", "mine"], check=True
    )  # a branch of the experiment's name is another thing
    told = pipeline.parent / "told.txt"
    changes = {"grid.recipes": ("a", "b"), "lr": 2}
    for _ in range(2):
        made = dvc.experiment("mine", changes, "train", variables={"SHARED": str(told)})
        dvc.fetch(made, "out", "params.yaml", into=Path("tables/mine"))
    assert Path("params.yaml").read_text() == settings
    assert not Path("out").exists()
    assert Path("tables/mine/out/b.txt").read_text() == f"{told} 2\n"
    assert sorted(told.read_text().split()) == ["a", "b"]


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
        tables.run_table("table3", tables.choose(params, "table3"), params, {})


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
    folder = Path("tables/table3/artifacts/evaluate") / cell.key
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(rows))
    for stage in ("train", "evaluate"):
        path = Path("tables/table3/artifacts") / stage / cell.key / "run.json"
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

    def stand_in(name: str, settings: dict[str, object], *stages: str, variables: dict[str, str]) -> str:
        called.append((name, settings, stages))
        assert Path(variables["LERENET_CACHE"]).is_absolute()
        assert variables["MLFLOW_TRACKING_URI"] == f"sqlite:///{project / 'mlflow.db'}"
        with stage_run("train", "k", Path("out"), params, settings={}):
            pass
        return ""

    monkeypatch.setattr("flows.dvc.experiment", stand_in)
    monkeypatch.setattr("flows.dvc.fetch", lambda *_, **__: None)
    tables.run_table("table3", table, params, {"lr": 1})
    assert called == [("table3", {"lr": 1}, ("evaluate", "floors", "report"))]
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
    monkeypatch.setattr(
        "flows.dvc.experiment", lambda *_, **__: seen.append(runs.os.environ.get(runs.PARENT))
    )
    monkeypatch.setattr("flows.dvc.fetch", lambda *_, **__: None)
    tables.run_table("table3", table, params, {})
    assert seen == [None]
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


def test_known_classes_are_as_the_report_has_them(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        [("a", "vgg16", 1, "fold0", 10.0, 1.0), ("a", "vgg16", 1, "known0", 20.0, 2.0)],
        columns=["recipe", "backbone", "shots", "split", "miou", "fb_iou"],
    )
    assert tables.means(rows) == {"a.1shot.miou": 10.0, "a.1shot.fb_iou": 1.0}
    assert tables.known(tmp_path) == {}
    path = tmp_path / "artifacts/report/metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"a.1shot.miou": 1, "known.a.1shot.miou": 30.5, "known.a.1shot.miou_low": 2}')
    assert tables.known(tmp_path) == {"known.a.1shot.miou": 30.5}
