"""Stage ``profile``: brightness, contrast and embedding of the defect images, for the drift report."""

from __future__ import annotations

from lerenet import layout, tracking
from lerenet.data.catalog import load_catalog
from lerenet.drift.profile import profile_images
from lerenet.files import atomic_path
from lerenet.params import load_params


def run() -> None:
    """Write ``artifacts/profile.parquet``."""
    params = load_params(layout.PARAMS)
    with tracking.stage_run("profile", "", layout.ARTIFACTS / "profile", params, settings={}) as run:
        profile = profile_images(load_catalog(layout.CATALOG), layout.DATA)
        with atomic_path(layout.PROFILE) as temporary:
            profile.to_parquet(temporary, index=False)
        run.log_metrics({name: float(profile[name].mean()) for name in ("brightness", "contrast")})
