"""Measured values with their spread; the table on the terminal and the JSON file."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.project import Project
from lerenet.files import write_json
from lerenet.tracking.git import git_state


@dataclass(frozen=True)
class Row:
    """One thing measured: the values of the repeated runs, and what to know about it."""

    name: str
    unit: str
    values: tuple[float, ...]
    note: str = ""

    def cells(self) -> tuple[str, str, str, str]:
        """Name, median, range, and unit with note."""
        low, middle, high = (_short(f(self.values)) for f in (min, statistics.median, max))
        spread = f"{low} to {high}" if len(self.values) > 1 else ""
        return self.name, middle, spread, f"{self.unit}, {self.note}" if self.note else self.unit


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ratio(name: str, ours: Sequence[float], other: Sequence[float]) -> Row:
    """How many times faster ours is, run by run."""
    return Row(name, "times", tuple(a / b for a, b in zip(ours, other, strict=True)))


@dataclass(frozen=True)
class Section:
    """What one benchmark found."""

    title: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


class Report:
    """Sections as they come, printed at once; one file at the end."""

    def __init__(self, project: Project, quick: bool) -> None:
        self.facts = {**machine(), **_subject(project), "quick": quick}
        self.sections: list[Section] = []

    def add(self, section: Section) -> None:
        """Print a section and keep it."""
        from rich.box import HORIZONTALS
        from rich.console import Console
        from rich.table import Table

        self.sections.append(section)
        table = Table(title=section.title, box=HORIZONTALS, collapse_padding=True)
        for name in ("what", "median", "range", "unit"):
            table.add_column(name, justify="right" if name == "median" else "left")
        for row in section.rows:
            table.add_row(*row.cells())
        Console().print(table, *(f"- {note}" for note in section.notes), sep="\n")

    def write(self, path: Path) -> None:
        """Write facts and sections as JSON."""
        sections: list[dict[str, Any]] = [asdict(section) for section in self.sections]
        for section in sections:
            for row in section["rows"]:
                row["median"] = statistics.median(row["values"])
        write_json(path, {"facts": self.facts, "sections": sections})
        print(
            "; ".join(f"{name} {value}" for name, value in self.facts.items()), f"written to {path}", sep="\n"
        )


def machine() -> dict[str, Any]:
    """What a reader needs to know of where and when something was measured."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **git_state(Path(__file__).parent),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def _subject(project: Project) -> dict[str, Any]:
    named = {"fold": project.fold, "recipe": project.recipe, "backbone": project.backbone}
    images = int(project.catalog["image"].nunique())
    return {**named, "init": project.init, "images": images, "image_size": project.params.image_size}
