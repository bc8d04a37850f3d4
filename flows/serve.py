"""Serve the deployments from this machine: ``python -m flows.serve`` beside a Prefect server.

One retraining at a time: a second one is cancelled when it comes (``CANCEL_NEW``).
"""

from __future__ import annotations

from typing import Any

from prefect import serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy

from flows.backbone_pretraining import backbone_pretraining
from flows.episodic_training import episodic_training
from flows.evaluation import evaluation
from flows.fold_splitting import fold_splitting
from flows.promote import promote, rollback
from flows.retrain import retrain

NIGHTLY = "0 2 * * *"


def deployments(cron: str = NIGHTLY) -> list[Any]:
    """The deployments: retraining on a schedule, the others by hand."""
    one = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    by_hand = (fold_splitting, backbone_pretraining, episodic_training, evaluation, promote, rollback)
    scheduled = retrain.to_deployment("nightly", cron=cron, concurrency_limit=one, tags=["lerenet"])
    return [
        scheduled,
        *(each.to_deployment("manual", concurrency_limit=one, tags=["lerenet"]) for each in by_hand),
    ]


if __name__ == "__main__":
    serve(*deployments())
