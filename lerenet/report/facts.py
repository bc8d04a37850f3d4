"""Where a report comes from: data, code, machine, time."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from lerenet import layout
from lerenet.data.dataset import read_about
from lerenet.params import Params
from lerenet.report.load import Loaded
from lerenet.tracking.git import commit_text
from lerenet.tracking.machine import machine


def facts(loaded: Loaded, params: Params) -> dict[str, str]:
    """Name to value, in the order in which the header prints them."""
    project = loaded.root.parent
    digest = str(loaded.folds["digest"]) if loaded.folds else "no folds yet"
    return {
        "Data set": _dataset_name(project),
        "Data hash (DVC)": layout.data_md5(project),
        "Episodes digest": digest,
        "Seeds": f"{params.seed} (folds, episodes), {_numbers(_seeds(loaded, params))} (training)",
        "Git commit": _of_runs(loaded, "commit") or commit_text(project),
        "Machine": _of_runs(loaded, "machine") or machine(),
        "Made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _seeds(loaded: Loaded, params: Params) -> tuple[int, ...]:
    """The training seeds of what was evaluated, or the grid's when nothing was."""
    seeds = {seed for model in loaded.models for seed in model.seeds}
    return tuple(sorted(seeds)) or params.grid.seeds


def _numbers(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def _dataset_name(project: Path) -> str:
    """Of the images beside the artifacts, or of the project's, where a table's artifacts lie apart."""
    return (read_about(project / layout.DATA) or read_about(layout.DATA)).get("name", "unnamed")


def _of_runs(loaded: Loaded, name: str) -> str:
    """What the evaluations' runs say under ``name``, the most frequent first; of several, how many say it."""
    said = Counter(
        str(run[name]) for run in loaded.runs if run["stage"] in ("evaluate", "floors") and run.get(name)
    )
    if len(said) < 2:
        return next(iter(said), "")
    return "; ".join(f"{text} ({count} evaluations)" for text, count in said.most_common())
