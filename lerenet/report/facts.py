"""Where a report comes from: data, code, machine, time."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lerenet import layout
from lerenet.data.dataset import read_about
from lerenet.params import Params
from lerenet.report.load import Loaded
from lerenet.tracking.git import git_state


def facts(loaded: Loaded, params: Params) -> dict[str, str]:
    """Name to value, in the order in which the header prints them."""
    project = loaded.root.parent
    digest = str(loaded.folds["digest"]) if loaded.folds else "no folds yet"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "Data set": _dataset_name(project),
        "Data hash (DVC)": layout.data_md5(project),
        "Episodes digest": digest,
        "Seeds": f"{params.seed} (folds, episodes), {_numbers(_seeds(loaded, params))} (training)",
        "Git commit": _commit(project),
        "Machine": f"{cores} cores, {_cpu()}, torch {_version('torch')}, Python {platform.python_version()}",
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


def _commit(project: Path) -> str:
    state = git_state(project)
    dirty = " with uncommitted changes" if state["git_dirty"] == "true" else ""
    return state["git_commit"] + dirty


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
