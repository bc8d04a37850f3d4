"""Every peer through the stages on a tiny data set: trained, saved, loaded, scored on the same episodes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pandas as pd
import pytest

from lerenet import layout
from lerenet.cells import Cell
from lerenet.files import read_json
from tests.helpers.networks import PEERS
from tests.helpers.pipeline import SMALL, drawn_project

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
BASE = "fold0-efficientnet_lite0"
TRAIN = {"epochs": 1, "batch": 4, "loss": "bce", "lr": 0.001}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """A project with a recipe for each peer, up to the start of training."""
    from lerenet.stages import pretrain

    recipes = {
        name: {"model": {"name": name, "width": 8, "side": 8}, "train": TRAIN} for name in sorted(PEERS)
    }
    recipes |= {"dilated": {"model": {"name": "pfenet", "width": 8, "side": 8, "stride": 8}, "train": TRAIN}}
    folder = drawn_project(
        tmp_path_factory.mktemp("peers"), mlflow_template, recipes=SMALL["recipes"] | recipes,
        levels=[1, 2, 3, 4], pretrain={"epochs": 0},
    )  # fmt: skip
    with contextlib.chdir(folder):
        pretrain.run(BASE)
    return folder


@pytest.mark.parametrize("name", [*sorted(PEERS), "dilated"])
def test_a_peer_is_trained_saved_and_scored(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from lerenet.evaluation.protocol import score_heads
    from lerenet.features.store import FeatureStore
    from lerenet.models.serialization import load_network
    from lerenet.stages import evaluate, train
    from lerenet.stages.common import Inputs

    monkeypatch.chdir(prepared)
    key = f"{BASE}-{name}-1-0"
    train.run(key)
    metrics = read_json(layout.TRAIN / key / "metrics.json")
    assert metrics["parameters"] > 0
    assert metrics["loss"] == pytest.approx(metrics["loss"])  # not NaN
    evaluate.run(key)
    written = pd.read_parquet(layout.EVALUATE / key / "counts.parquet")
    inputs = Inputs.load()
    assert sorted(written["episode"]) == sorted(inputs.chosen("fold0", "test")["episode"])
    network = load_network(layout.TRAIN / key / "model").network
    assert network.backbone.stride == (8 if name == "dilated" else None)
    store = FeatureStore(network.backbone, inputs.catalog, inputs.params, layout.DATA)
    store.ensure(inputs.split("fold0")["novel"], masked="masked" in network.head.reads)
    again = score_heads(
        {name: (network.head, store)}, inputs.chosen("fold0", "test"), inputs.params.precision
    )
    assert (again[["tp", "fp", "fn", "tn"]] == written[["tp", "fp", "fn", "tn"]]).all().all()


def test_an_interrupted_training_with_a_base_learner_goes_on_bit_for_bit(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from lerenet.stages import train
    from lerenet.stages.common import Inputs

    monkeypatch.chdir(prepared)
    monkeypatch.setattr("lerenet.training.trainer.CHECKPOINT_SECONDS", 0.0)
    inputs, cell = Inputs.load(), Cell.parse(f"{BASE}-bam-1-0")
    base = inputs.split("fold0")["base"]
    found = []
    for folder, dies_at in (("whole", None), ("cut", 2), ("cut", None)):
        trainer = train._trainer(inputs, cell, base, True, None, prepared / layout.CHECKPOINTS / folder)
        real = trainer._step

        def step(epoch: int, number: int, real=real, dies_at=dies_at) -> float:  # type: ignore[no-untyped-def]
            if number == dies_at:
                raise KeyboardInterrupt
            return float(real(epoch, number))

        monkeypatch.setattr(trainer, "_step", step)
        if dies_at is None:
            trainer.run()
            found.append(trainer.head.state_dict())
        else:
            with pytest.raises(KeyboardInterrupt):
                trainer.run()
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())
