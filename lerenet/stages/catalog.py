"""Stage ``catalog``: index every image and mask of the data folder."""

from __future__ import annotations

from lerenet import layout, tracking
from lerenet.data.cataloguing import build_catalog
from lerenet.params import load_params


def run() -> None:
    """Write ``artifacts/catalog.parquet``."""
    params = load_params(layout.PARAMS)
    with tracking.stage_run("catalog", "", layout.ARTIFACTS / "catalog", params, settings={}) as run:
        catalog = build_catalog(layout.DATA, layout.CATALOG)
        run.log_metrics({"images": len(catalog), "classes": catalog["cls"].nunique()})
        run.log_artifact(layout.CATALOG)
