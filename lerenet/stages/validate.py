"""Stages ``validate`` and ``validate_folds``: Great Expectations on the catalogue and the episodes."""

from __future__ import annotations

from lerenet import layout, tracking
from lerenet.data.catalog import load_catalog
from lerenet.data.folds import load_folds
from lerenet.data.validation.runner import validate_catalog, validate_folds
from lerenet.params import load_params


def run() -> None:
    """Validate the catalogue; a failure stops here with the rows that failed."""
    params = load_params(layout.PARAMS)
    settings = {"validation": params.validation.model_dump()}
    with tracking.stage_run("validate", "", layout.VALIDATION, params, settings=settings) as run:
        run.log_artifact(layout.VALIDATION / "result.json")
        validate_catalog(
            load_catalog(layout.CATALOG), params.validation, params.episodes.shots, layout.VALIDATION
        )


def run_folds() -> None:
    """Validate folds and frozen episodes."""
    params = load_params(layout.PARAMS)
    with tracking.stage_run("validate_folds", "", layout.FOLDS_VALIDATION, params, settings={}) as run:
        run.log_artifact(layout.FOLDS_VALIDATION / "result.json")
        folds, episodes = load_folds(layout.FOLDS)
        validate_folds(folds, episodes, load_catalog(layout.CATALOG), layout.FOLDS_VALIDATION)
