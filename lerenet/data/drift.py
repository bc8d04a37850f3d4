"""How a new catalogue differs from the one of the last training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

ALPHA = 0.01  # below this p-value a difference is called a shift
MIN_SAMPLE = 5  # images on each side for a test
SHOWN_IMAGES = 20


def drift_summary(old: pd.DataFrame, new: pd.DataFrame) -> dict[str, Any]:
    """Compare two catalogues (columns as in artifacts/catalog.parquet).

    Returns:
        ``changed`` (any image added, removed or replaced), ``classes_added``, ``classes_removed``,
        ``images_added``, ``images_removed``, ``images_replaced`` (same name, other image or mask), and
        ``classes``: one row a class with ``cls``, ``old`` and ``new`` (defect images), ``clean_old``,
        ``clean_new``, and for ``foreground`` (share of the mask) and ``area`` (pixels) of the defect
        images: ``median_old``, ``median_new``, ``ks`` (two-sample Kolmogorov-Smirnov statistic),
        ``p`` and ``shift`` (p < 0.01); null where a side has fewer than 5 images. The p-values
        are not corrected for the number of classes.
    """
    before, after = (_digests(frame) for frame in (old, new))
    added, removed = sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
    replaced = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
    classes = sorted(set(old["cls"]) | set(new["cls"]))
    return {
        "changed": bool(added or removed or replaced),
        "classes_added": sorted(set(new["cls"]) - set(old["cls"])),
        "classes_removed": sorted(set(old["cls"]) - set(new["cls"])),
        "images_added": added,
        "images_removed": removed,
        "images_replaced": replaced,
        "classes": [_class_row(cls, old[old["cls"] == cls], new[new["cls"] == cls]) for cls in classes],
    }


def _digests(frame: pd.DataFrame) -> dict[str, str]:
    return dict(zip(frame["image"], frame["sha256"] + frame["mask_sha256"], strict=True))


def _class_row(cls: str, old: pd.DataFrame, new: pd.DataFrame) -> dict[str, Any]:
    a, b = old[old["kind"] == "defect"], new[new["kind"] == "defect"]
    return {
        "cls": cls,
        "old": len(a),
        "new": len(b),
        "clean_old": len(old) - len(a),
        "clean_new": len(new) - len(b),
        "foreground": _compare(a["foreground"], b["foreground"]),
        "area": _compare(a["width"] * a["height"], b["width"] * b["height"]),
    }


def _compare(old: pd.Series[Any], new: pd.Series[Any]) -> dict[str, Any]:
    from scipy.stats import ks_2samp

    found: dict[str, Any] = {
        "median_old": float(old.median()) if len(old) else None,
        "median_new": float(new.median()) if len(new) else None,
        "ks": None,
        "p": None,
        "shift": False,
    }
    if min(len(old), len(new)) >= MIN_SAMPLE:
        test = ks_2samp(old.to_numpy(), new.to_numpy(), method="asymp")
        p = float(test.pvalue)
        found |= {"ks": float(test.statistic), "p": p, "shift": p < ALPHA}
    return found


def drift_markdown(summary: Mapping[str, Any]) -> str:
    """The summary as Markdown: what changed, then one line a class."""
    if not summary["changed"]:
        return "The images are the same as at the last training.\n"
    lines = [
        f"{len(summary['images_added'])} images added, {len(summary['images_removed'])} removed, "
        f"{len(summary['images_replaced'])} replaced.",
        "",
    ]
    for title, key in (("Classes added", "classes_added"), ("Classes removed", "classes_removed")):
        if summary[key]:
            lines += [f"{title}: {', '.join(summary[key])}.", ""]
    lines += [
        "| class | defect images | clean images | median foreground | p | median area (px) | p |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_markdown_row(row) for row in summary["classes"]]
    lines += _markdown_images(summary)
    return "\n".join(lines) + "\n"


def _markdown_row(row: Mapping[str, Any]) -> str:
    foreground, area = row["foreground"], row["area"]
    cells = [
        row["cls"],
        _change(row["old"], row["new"], "{:d}"),
        _change(row["clean_old"], row["clean_new"], "{:d}"),
        _change(foreground["median_old"], foreground["median_new"], "{:.2%}"),
        _p(foreground),
        _change(area["median_old"], area["median_new"], "{:.0f}"),
        _p(area),
    ]
    return f"| {' | '.join(cells)} |"


def _change(old: float | None, new: float | None, style: str) -> str:
    before, after = ("none" if value is None else style.format(value) for value in (old, new))
    return before if before == after else f"{before} to {after}"


def _p(test: Mapping[str, Any]) -> str:
    if test["p"] is None:
        return "too few images"
    return f"**{test['p']:.2g}, shifted**" if test["shift"] else f"{test['p']:.2g}"


def _markdown_images(summary: Mapping[str, Any]) -> list[str]:
    lines = []
    titles = {"images_added": "New", "images_removed": "Gone", "images_replaced": "Replaced"}
    for key, title in titles.items():
        names = summary[key]
        if names:
            more = f" and {len(names) - SHOWN_IMAGES} more" if len(names) > SHOWN_IMAGES else ""
            lines += ["", f"{title}: {', '.join(f'`{name}`' for name in names[:SHOWN_IMAGES])}{more}."]
    return lines
