"""Train the few-shot heads episodically: every cell of the grid, and the model that ships."""

from __future__ import annotations

from prefect import flow

from flows.runners import LOCAL
from flows.stages import mirror, publish, read_metrics
from lerenet import layout


@flow(name="episodic-training")
def episodic_training(jobs: int = 1, force: bool = False, runner: str = LOCAL) -> list[str]:
    """Run the stages ``features@…``, ``train@…``, ``ship`` and what they need."""
    done = mirror(["training"], jobs, force, runner)
    publish("episodic-training", read_metrics(layout.TRAIN), "Trained cells, one row each")
    return done


if __name__ == "__main__":
    episodic_training()
