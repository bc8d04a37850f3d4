"""A section of the live model's page: exported classes beside the inspector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.tables import facts, table


def exported(found: Mapping[str, Any]) -> str:
    """Ways in rows: how long they take, and how far each class's file answers as the inspector does."""
    latency = [
        (
            row["way"],
            str(row["pictures"]),
            "{:.0f} ({:.0f} to {:.0f})".format(row["median"], *ends(row["milliseconds"])),
        )
        for row in found["latency"]
    ]
    rows = [
        (row["class"], row["reader"], row["way"], f"{row['marked']} of {row['pictures']}", fraction(row["lowest IoU"]),
         fraction(row["median IoU"]), str(row["other verdicts"]), f"{row['score']:.2g}")
        for row in found["parity"]
    ]  # fmt: skip
    return "\n\n".join([
        "## Exported classes",
        f"Classes of `lerenet export` beside the inspector, which asks torch picture by picture. The time is of "
        f"{found['timed']}, read by {found['reader']}: from squares of {found['size']} x {found['size']} to masks, "
        f"verdicts and scores; the middle of {found['repeats']} calls, {found['machine']['threads']} threads each.",
        f"Commit {found['machine']['git_commit'][:7]}; load before {found['machine']['load_before']}; {facts(found)}",
        table(("way", "pictures", "ms"), latency),
        "How the file answers, on every picture of each class: the overlap of its masks with the inspector's where "
        "either marks, how many verdicts are others, the largest difference of a score.",
        table(("class", "reader", "way", "marked", "lowest IoU", "median IoU", "other verdicts", "score"), rows),
    ])  # fmt: skip


def ends(values: Sequence[float]) -> tuple[float, float]:
    """The least and the most."""
    return min(values), max(values)


def fraction(value: float | None) -> str:
    """Of 1, nothing where nothing is marked; what is not quite 1 is not shown as 1."""
    return "-" if value is None else f"{math.floor(value * 1e4) / 1e4:.4f}"
