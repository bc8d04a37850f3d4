"""What a retraining tells people: that it failed or was blocked (`lerenet.registry.telling`: what was decided)."""

from __future__ import annotations

from typing import Any

from lerenet.errors import DataError
from lerenet.notify import notify


class Shifted(DataError):
    """Images that shifted, where ``drift.action`` is ``block``."""


def failed(flow: Any, flow_run: Any, state: Any) -> None:
    """Prefect's hook of a retraining that failed."""
    error = state.result(raise_on_failure=False)
    what = "retraining blocked, the images shifted" if isinstance(error, Shifted) else "retraining failed"
    _tell(flow_run, what, str(error))


def crashed(flow: Any, flow_run: Any, state: Any) -> None:
    """Prefect's hook of one whose process ended before it did."""
    _tell(flow_run, "retraining cut short", state.message or "")


def _tell(run: Any, what: str, why: str) -> None:
    if not run.parameters.get("dry"):
        notify(what, [run.name, *why.splitlines()], f"prefect flow-run logs {run.id}")
