"""What flow runs are called: by what they do, on which day (UTC), to which data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from prefect.runtime import flow_run

from lerenet import layout

SHORT = 8  # characters of a hash that a person reads


def on_data(what: str) -> str:
    """``<what> 2026-11-28 data 3f5a52b4``: the day, and the data's DVC hash as the run begins."""
    md5 = layout.data_md5()
    return f"{what} {datetime.now(UTC):%Y-%m-%d} data {md5 if md5 == 'untracked' else md5[:SHORT]}"


def named(what: str) -> Callable[[], str]:
    """A ``flow_run_name`` of Prefect's: `on_data` of each run."""
    return lambda: on_data(what)


def retraining() -> str:
    """The name of a retraining: its folds, if it has only some; one that only looks is a forecast."""
    given = flow_run.parameters
    return on_data("forecast" if given.get("dry") else " ".join(["retrain", *given.get("folds", ())]))


def stages() -> str:
    """The name of the mirror: how many stages it goes through."""
    count = len(flow_run.parameters["graph"])
    return f"{count} stage{'s' if count > 1 else ''}"
