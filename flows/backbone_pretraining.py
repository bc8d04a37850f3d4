"""Pretrain the backbones on the base classes of each split."""

from __future__ import annotations

from prefect import flow

from flows.runners import LOCAL
from flows.stages import mirror, publish, read_metrics
from lerenet import layout


@flow(name="backbone-pretraining")
def backbone_pretraining(jobs: int = 1, force: bool = False, runner: str = LOCAL) -> list[str]:
    """Run the stages ``pretrain@…`` and what they need."""
    done = mirror(["pretraining"], jobs, force, runner)
    publish("backbone-pretraining", read_metrics(layout.PRETRAIN), "Pretrained backbones, one row each")
    return done


if __name__ == "__main__":
    backbone_pretraining()
