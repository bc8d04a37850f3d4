"""The search of the peers' settings: greedy, as many trials for each, resumed, and a real trial on a tiny project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks import tuning
from benchmarks.tuning import FOLDS, PEERS, RELEASED, Search, changes, recipe, table
from lerenet.models import create_model
from lerenet.models.config import network_config
from lerenet.params import Recipe, TrainSettings, load_params
from tests.helpers import PROJECT
from tests.helpers.pipeline import make_project

OURS = load_params(PROJECT / "params.yaml")
ABOUT = {"data": "d", "seed": 0, "backbone": "b", "epochs": 1, "steps": 1}
GAINS = {
    "loss": {"bce": 0.0, "bce_dice": 4.0},
    "scaled": {False: 0.0, True: -1.0},
    "prior": {"highest": 0.0, "centred": 2.0},
}
RATES = {3e-4: 0.0, 1e-3: 1.0, 1e-4: -1.0, 3e-3: -5.0}


def points(chosen: dict[str, Any]) -> float:
    return 20 + sum(values[chosen[name]] for name, values in GAINS.items()) + RATES[chosen["lr"]]


def searched(path: Path, peer: str, stop: int | None = None) -> list[dict[str, Any]]:
    """Every trial's row, its score made up by `points`; ``stop`` after so many, as a kill would."""
    search, done = Search(path, ABOUT), []
    for fold, chosen in search.missing(peer):
        if stop is not None and len(done) == stop:
            break
        row = {
            "peer": peer,
            "chosen": chosen,
            "fold": fold,
            "miou": points(chosen),
            "epoch": 1,
            "seconds": 1.0,
        }
        search.add(row)
        done.append(row)
    return done


@pytest.mark.parametrize("peer", PEERS)
def test_every_peer_gets_six_trials_and_keeps_what_gained(peer: str, tmp_path: Path) -> None:
    rows = searched(tmp_path / "rows.json", peer)
    trials = {tuple(row["chosen"].items()) for row in rows}
    assert len(rows) == len(FOLDS) * len(trials) == 18
    assert rows[0]["chosen"] == RELEASED
    prior = "centred" if peer in tuning.WITH_PRIOR else "highest"
    expected = {"loss": "bce_dice", "scaled": False, "prior": prior, "lr": 1e-3}
    assert Search(tmp_path / "rows.json", ABOUT).best(peer) == expected


def test_a_search_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole.json", "dcp")
    parts = [searched(tmp_path / "parts.json", "dcp", stop) for stop in (1, 7, 0, None)]
    assert [row for part in parts for row in part] == whole
    assert not searched(tmp_path / "parts.json", "dcp")
    assert Search(tmp_path / "parts.json", {**ABOUT, "data": "other"}).best("dcp") is None


def test_nothing_is_best_before_every_trial_ran(tmp_path: Path) -> None:
    searched(tmp_path / "rows.json", "bam", stop=17)
    search = Search(tmp_path / "rows.json", ABOUT)
    assert search.best("bam") is None
    assert "**" not in table(search)
    searched(tmp_path / "rows.json", "bam")
    assert table(Search(tmp_path / "rows.json", ABOUT)).count("**bam**") == 1


@pytest.mark.parametrize("peer", PEERS)
def test_a_trial_is_a_recipe_that_params_would_take(peer: str) -> None:
    for change in ({}, *changes(peer)):
        made = recipe(OURS, peer, {**RELEASED, **change})
        settings = TrainSettings.model_validate({**OURS.train.model_dump(), **made.train})
        assert (settings.loss, settings.lr) == ({**RELEASED, **change}["loss"], {**RELEASED, **change}["lr"])
        head = create_model(network_config({**made.model, "width": 8}), {1: 4, 2: 6, 3: 8, 4: 10}, 40)
        assert head.image_size == 40


@pytest.mark.parametrize("peer", PEERS)
def test_the_first_trial_is_the_peers_own_recipe_but_for_length_and_pretraining(peer: str) -> None:
    first, own = recipe(OURS, peer, RELEASED), OURS.recipes[peer]
    assert network_config(first.model) == network_config(own.model)
    length = {"epochs", "episodes_per_epoch"}
    differing = {key for key in first.train if first.train[key] != own.train.get(key)}
    assert differing <= length
    assert set(own.train) == set(first.train)


def test_the_command_trains_its_trials_and_prints_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path, views={"count": 0}, init="random", levels=[1, 2, 3, 4])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuning, "BACKBONE", "resnet18")
    small = {"model": {"name": "pfenet", "width": 4}, "train": {"batch": 2}}
    params = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(
        yaml.safe_dump({**params, "recipes": {**params["recipes"], "pfenet": small}})
    )
    monkeypatch.setattr(tuning, "FOLDS", ("fold0",))
    words = ["pfenet", "--epochs", "1", "--steps", "1", "--rows", "rows.json"]
    done = CliRunner().invoke(tuning.app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.output.count("pfenet fold0 {") == 6
    printed = yaml.safe_load(done.output[done.output.index("pfenet_tuned") :])
    Recipe.model_validate(printed["pfenet_tuned"])
    again = CliRunner().invoke(tuning.app, words, catch_exceptions=False)
    assert "pfenet fold0 {" not in again.output
    assert not list((tmp_path / ".checkpoints").rglob("*.pt"))


def test_an_unknown_peer_is_refused_by_name() -> None:
    done = CliRunner().invoke(tuning.app, ["unet"])
    assert done.exit_code == 2
    assert "unet" in done.output
