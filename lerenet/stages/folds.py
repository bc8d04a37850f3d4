"""Stage ``folds``: class-disjoint splits and the frozen evaluation episodes."""

from __future__ import annotations

from lerenet import layout, tracking
from lerenet.data.catalog import load_catalog
from lerenet.data.folds import build_folds
from lerenet.params import load_params


def run() -> None:
    """Write ``artifacts/folds/``."""
    params = load_params(layout.PARAMS)
    settings = {"episodes": params.episodes.model_dump(), "seed": params.seed}
    with tracking.stage_run("folds", "", layout.FOLDS, params, settings=settings) as run:
        folds = build_folds(load_catalog(layout.CATALOG), params, layout.FOLDS)
        run.log_metrics({"episodes": folds["episodes"]})
        run.set_dataset("episodes", folds["digest"])
        run.log_artifact(layout.FOLDS / "folds.json")
