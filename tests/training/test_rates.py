"""The rates that the published recipes train at, as the optimiser's groups have them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from lerenet.params import load_params
from lerenet.training.trainer import Trainer
from tests.helpers import PROJECT


@pytest.mark.parametrize("recipe", ["authors", "tgrnet_official"])
@pytest.mark.parametrize(("step", "left"), [(0, 1.0), (750, 0.25**0.9)])
def test_the_head_trains_at_ten_and_the_backbone_at_a_tenth_of_the_papers_rate(
    recipe: str, step: int, left: float
) -> None:
    head, backbone = nn.Linear(2, 3), nn.Linear(2, 5)
    trainer: Any = SimpleNamespace(
        head=head,
        store=SimpleNamespace(backbone=backbone),
        trained=True,
        settings=load_params(PROJECT / "params.yaml").train_settings(recipe),
        total=1000,
    )
    trainer.optimizer = Trainer._optimizer(trainer)
    Trainer._set_rate(trainer, step)
    rates = {id(p): group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in head.parameters()] == [pytest.approx(10 * 5e-4 * left)] * 2
    assert [rates[id(p)] for p in backbone.parameters()] == [pytest.approx(0.1 * 5e-4 * left)] * 2
