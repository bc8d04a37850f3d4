"""Which weights leave a training: those that segment already stay unless every held-out class gains."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lerenet import layout
from lerenet.cells import Cell
from lerenet.evaluation.resampling import COUNTS, paired_bootstrap, surely_better
from lerenet.files import read_json, write_json
from tests.helpers.pipeline import SMALL, drawn_project

WORSE_IN_ONE = {"A": 0.9, "B": 0.48}


def counts(quality: dict[str, float], queries: int = 30) -> pd.DataFrame:
    """Counts of a model that finds this share of each class's defects; the same queries every time."""
    rows = []
    for cls, share in quality.items():
        for query in range(queries):
            size = 100 + 10 * query
            found = round(size * share)
            rows.append(("fold0", "defect", cls, f"{cls}/{query}", found, size - found, size - found, 4000))
    table = pd.DataFrame(rows, columns=["split", "kind", "cls", "query", *COUNTS])
    return table.assign(episode=range(len(table)))


def test_a_gain_in_the_mean_alone_is_not_enough() -> None:
    before = counts({"A": 0.5, "B": 0.5})
    assert surely_better(before, counts({"A": 0.6, "B": 0.52}))
    assert not surely_better(before, before)
    one_sided = counts(WORSE_IN_ONE)
    assert paired_bootstrap(before, one_sided).low > 0
    assert not surely_better(before, one_sided)


def test_a_gain_that_the_choice_of_queries_may_have_made_is_not_enough() -> None:
    before = counts({"A": 0.5, "B": 0.5})
    luck = np.random.default_rng(2).normal(0, 0.3, len(before)) + 0.04
    found = (before["tp"] * (1 + luck)).round().clip(0, before["tp"] + before["fn"])
    after = before.assign(tp=found, fn=before["tp"] + before["fn"] - found)
    assert all(paired_bootstrap(before[before["cls"] == c], after[after["cls"] == c]).gain > 0 for c in "AB")
    assert not surely_better(before, after)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """A project with a recipe for each way to choose, whose backbones keep their initial weights."""
    from lerenet.stages import pretrain

    recipes = {
        f"{name}_{elect}": {"model": {"name": name, "side": 8, "width": 8}, "train": {"elect": elect}}
        for name, elect in (("lerenet", "surely_better"), ("lerenet", "best"), ("baseline", "surely_better"))
    }
    folder = drawn_project(
        tmp_path_factory.mktemp("untrained"), mlflow_template, recipes=SMALL["recipes"] | recipes,
        pretrain={"epochs": 0},
    )  # fmt: skip
    with contextlib.chdir(folder):
        for split in ("fold0", "all"):
            pretrain.run(f"{split}-efficientnet_lite0")
    return folder


@pytest.mark.parametrize(
    ("recipe", "after", "kept"),
    [
        ("lerenet_surely_better", WORSE_IN_ONE, 0),
        ("lerenet_best", WORSE_IN_ONE, 2),
        ("lerenet_surely_better", {"A": 0.6, "B": 0.6}, 2),
        ("baseline_surely_better", WORSE_IN_ONE, 2),
    ],
)
def test_what_segments_untrained_is_replaced_only_by_what_is_surely_better(
    untrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe: str,
    after: dict[str, float],
    kept: int,
) -> None:
    from lerenet.stages import train
    from lerenet.stages.common import Inputs

    monkeypatch.chdir(untrained)
    scripted = iter([counts({"A": 0.5, "B": 0.5}), counts({"A": 0.4, "B": 0.4}), counts(after)])

    def scored(*_: Any, **__: Any) -> pd.DataFrame:
        return next(scripted)

    monkeypatch.setattr("lerenet.training.trainer.score", scored)
    inputs, cell = Inputs.load(), Cell.parse(f"fold0-efficientnet_lite0-{recipe}-1-0")
    base = inputs.split("fold0")["base"]
    trainer = train._trainer(inputs, cell, base, True, None, tmp_path / "checkpoints")
    trainer.run()
    assert trainer.best["epoch"] == kept


@pytest.mark.parametrize(("init", "kept"), [("imagenet", 0), ("random", 1)])
def test_a_pretraining_that_harms_a_class_is_refused_unless_it_began_at_random(
    tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch, init: str, kept: int
) -> None:
    from lerenet.stages import pretrain

    monkeypatch.chdir(drawn_project(tmp_path, mlflow_template, init=init))
    scripted = iter([counts({"A": 0.5, "B": 0.5}), counts(WORSE_IN_ONE)])
    monkeypatch.setattr("lerenet.training.pretrain.score", lambda *_: next(scripted))
    pretrain.run("fold0-efficientnet_lite0")
    metrics = read_json(layout.PRETRAIN / "fold0-efficientnet_lite0" / "metrics.json")
    assert metrics["chosen_epoch"] == kept


def test_where_every_fold_kept_its_initial_weights_the_shipped_cell_does_too(
    untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerenet.models.serialization import load_network
    from lerenet.stages import train

    monkeypatch.chdir(untrained)
    for fold in ("fold0", "fold1", "fold2"):
        write_json(
            layout.TRAIN / f"{fold}-efficientnet_lite0-lerenet-1-0" / "metrics.json", {"best_epoch": 0}
        )
    train.run_ship()
    shipped = layout.TRAIN / "all-efficientnet_lite0-lerenet-1-0"
    assert read_json(shipped / "metrics.json")["best_epoch"] == 0
    head = load_network(shipped / "model").network.head
    assert not head.get_parameter("ifm.last.weight").any()  # no correction was learned
