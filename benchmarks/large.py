"""Sections of the live model's page: scales, pictures of 24 megapixels, many photos in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables import facts, table

SCORES = {
    "iou": "IoU",
    "pro": "per-region overlap",
    "auroc": "AUROC",
    "called": "called",
    "false_calls": "false calls",
}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def scales(found: Mapping[str, Any]) -> str:
    """Classes and scales in rows."""
    rows = [
        (cls if row is one[0] else "", str(row["side"] or "whole"), *(_number(row[name]) for name in SCORES))
        for cls, one in found["classes"].items()
        for row in one
    ]
    return "\n\n".join([
        "## Scales, by matching",
        "Each image left out; pictures as a whole, or in squares of so many of their pixels. `called`: defects above "
        "the threshold that good parts set.",
        facts(found), table(("class", "squares of", *SCORES.values()), rows),
    ])  # fmt: skip


def resolution(found: Mapping[str, Any]) -> str:
    """Large pictures: squares and squashing in columns."""
    ways = found["ways"]
    sizes = list(next(iter(ways.values()))["by size"])
    rows = [("AUROC of pictures", *(_number(one["auroc"]) for one in ways.values()))]
    for size in sizes:
        parts = [one["by size"][size] for one in ways.values()]
        rows.append(
            (
                f"called, {size} of the picture (of {parts[0]['defects']})",
                *(_number(part["called"]) for part in parts),
            )
        )
    for name, title in FACTS.items():
        rows.append((title, *(_number(one[name]) for one in ways.values())))
    wide, high = found["size"]
    return "\n\n".join([
        f"## Pictures of {wide} x {high}, put together of {found['class']}",
        f"{found['pictures']} pictures, of which one part is marked or none; defects are called above the limit at "
        "which at most one good picture in twenty is.",
        facts(found), table(("", *ways), rows),
    ])  # fmt: skip


FACTS = {
    "called": "all defects called", "good called": "good pictures called", "NG": "NG by the class's own thresholds",
    "good NG": "good pictures NG", "marked of the defect": "of a defect marked", "seconds": "seconds a picture, median",
    "slowest": "seconds, slowest", "peak_mib": "peak of resident memory, MiB",
}  # fmt: skip


def line(found: Mapping[str, Any]) -> str:
    """One call over many photos, stopped and gone on with."""
    rows = []
    for name in ("stopped", "gone on"):
        part = found[name]
        quarters = ", ".join(f"{value:.0f}" for value in part["memory_mib_by_quarter"])
        rows.append(
            (name, f"{part['seconds']:.0f}", str(part["status"]), quarters, f"{part['memory_mib_most']:.0f}")
        )
    return "\n\n".join([
        f"## {found['photos']} photos in one call",
        f"`lerenet inspect` for {', '.join(found['classes'])} of their own photos, sent Ctrl-C after "
        f"{found['stopped']['done']} photos and "
        f"called again: {found['photos a second']} photos a second, {found['gone on']['made again']} made twice, "
        + ("every photo answered." if found["whole"] else "**not every photo answered.**"),
        facts(found), table(("call", "seconds", "status", "memory by quarters, MiB", "most"), rows),
    ])  # fmt: skip
