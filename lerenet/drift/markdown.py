"""The drift summary for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lerenet.drift.compare import STATS

SHOWN_IMAGES = 20
STYLES = {"foreground": "{:.2%}", "area": "{:.0f}", "brightness": "{:.2f}", "contrast": "{:.2f}"}
HEAD = (
    "| class | defect images | of these new | clean images | foreground | area (px) | brightness | contrast "
    "| embedding |"
)
NOTE = (
    "Medians over the defect images, then p of the test of the new images against the old version's, corrected "
    "for all tests here; for the embedding the distance of the means in units of the spread."
)


def shifted(summary: Mapping[str, Any]) -> str:
    """``class: statistic, statistic; class: ...`` of what shifted; empty where nothing did."""
    reasons: dict[str, list[str]] = {}
    for cls, stat in summary["shifts"]:
        reasons.setdefault(cls, []).append(stat)
    return "; ".join(f"{cls}: {', '.join(stats)}" for cls, stats in reasons.items())


def drift_markdown(summary: Mapping[str, Any]) -> str:
    """The summary as Markdown: what changed and shifted, then one line a class."""
    if not summary["changed"]:
        return "The images are the same.\n"
    lines = [
        f"{len(summary['images_added'])} images added, {len(summary['images_removed'])} removed, "
        f"{len(summary['images_replaced'])} replaced.",
        "",
        f"Shifted: {shifted(summary) or 'nothing'}.",
        "",
    ]
    for title, key in (("Classes added", "classes_added"), ("Classes removed", "classes_removed")):
        if summary[key]:
            lines += [f"{title}: {', '.join(summary[key])}.", ""]
    lines += [HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    lines += [_row(row) for row in summary["classes"]]
    lines += ["", NOTE, *_images(summary)]
    return "\n".join(lines) + "\n"


def _row(row: Mapping[str, Any]) -> str:
    counts = [_change(row["old"], row["new"], "{:d}"), str(row["came"])]
    clean = _change(row["clean_old"], row["clean_new"], "{:d}")
    cells = [_cell(row, stat, _change(row[stat]["median_old"], row[stat]["median_new"], STYLES[stat]))
             for stat in STATS]  # fmt: skip
    distance = row["embedding"]["effect"]
    cells.append(_cell(row, "embedding", "" if distance is None else f"{distance:.2f}"))
    return f"| {' | '.join([row['cls'], *counts, clean, *cells])} |"


def _change(old: float | None, new: float | None, style: str) -> str:
    before, after = ("none" if value is None else style.format(value) for value in (old, new))
    return before if before == after else f"{before} to {after}"


def _cell(row: Mapping[str, Any], stat: str, text: str) -> str:
    test = row[stat]
    if test["p"] is None:
        return f"{text} (too few)".strip() if row["came"] and row["old"] else text
    p = f"p {test['p']:.2g}"
    return f"{text} (**{p}, shifted**)" if test["shift"] else f"{text} ({p})"


def _images(summary: Mapping[str, Any]) -> list[str]:
    lines = []
    titles = {"images_added": "New", "images_removed": "Gone", "images_replaced": "Replaced"}
    for key, title in titles.items():
        names = summary[key]
        if names:
            more = f" and {len(names) - SHOWN_IMAGES} more" if len(names) > SHOWN_IMAGES else ""
            lines += ["", f"{title}: {', '.join(f'`{name}`' for name in names[:SHOWN_IMAGES])}{more}."]
    return lines
