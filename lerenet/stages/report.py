"""Stage ``report``: one page for people, and numbers for `dvc metrics` and `dvc plots`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lerenet import layout, tracking
from lerenet.files import write_text
from lerenet.params import load_params
from lerenet.report import kept
from lerenet.report.build import build_report, results_markdown


def run() -> None:
    """Write ``artifacts/report/``."""
    params = load_params(layout.PARAMS)
    with tracking.stage_run("report", "", layout.REPORT, params, settings={}) as run:
        build_report(layout.ARTIFACTS, params, layout.REPORT)
        run.log_artifact(layout.REPORT / "report.html")
        run.log_artifact(layout.REPORT / "metrics.json")


def write_results(out: Path, artifacts: Path, archives: Sequence[Path] = ()) -> None:
    """Write the results page of the run that lies in ``artifacts``, and of the cells kept in ``archives``."""
    if not archives:
        write_text(out, results_markdown(artifacts))
        return
    with kept.beside(artifacts, archives) as root:
        write_text(out, results_markdown(root))
