"""How the images of a class changed between two versions of the data.

What is compared are the images of the old version with those that came since, new or replaced: two
samples with nothing in common, so that ten odd images show beside a hundred old ones. Images of one
group are averaged first, as they are no independent draws.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lerenet.data.catalog import load_catalog
from lerenet.params import DriftSettings

STATS = ("foreground", "area", "brightness", "contrast")  # numbers; the embedding is a vector
MIN_SAMPLE = 5  # groups on each side for a test
PERMUTATIONS = 19_999
CHUNK = 1_000  # permutations at once


def load_profiled(path: Path) -> pd.DataFrame:
    """A catalogue with the columns of the ``profile.parquet`` beside it, where there is one.

    Raises:
        DataError: the catalogue is missing, no Parquet, or lacks a column.
    """
    catalog, profile = load_catalog(path), Path(path).with_name("profile.parquet")
    return catalog.merge(pd.read_parquet(profile), "left", "image") if profile.exists() else catalog


def drift_summary(old: pd.DataFrame, new: pd.DataFrame, settings: DriftSettings) -> dict[str, Any]:
    """Compare two catalogues (as `load_profiled` gives them; columns of the profile may be missing).

    Returns:
        ``changed`` (any image added, removed or replaced), ``classes_added``, ``classes_removed``,
        ``images_added``, ``images_removed``, ``images_replaced`` (same name, other image or mask);
        ``classes``: one row a class with ``cls``, ``old`` and ``new`` (defect images), ``came`` (of the
        new ones), ``clean_old``, ``clean_new``, and of the defect images ``foreground`` (share of the
        mask), ``area`` (pixels), ``brightness`` and ``contrast`` (0 to 1) and ``embedding``, each with
        ``median_old`` and ``median_new`` of the versions (null for the embedding), ``effect``, ``p`` and
        ``shift``; and ``shifts``: the (class, statistic) pairs that shifted.

        ``effect`` is the two-sample Kolmogorov-Smirnov statistic, for the embedding the distance of
        `_embedding`. ``p`` is corrected for all tests of all classes (Benjamini-Hochberg). Both are
        null where a side has fewer than 5 groups or no such column. A shift has ``p`` below
        ``settings.alpha`` and an effect of ``settings.min_ks`` (``min_distance``) or more.
    """
    before, after = (_digests(frame) for frame in (old, new))
    added, removed = sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
    replaced = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
    classes = sorted(set(old["cls"]) | set(new["cls"]))
    rows = [_class_row(cls, old[old["cls"] == cls], new[new["cls"] == cls]) for cls in classes]
    _judge(rows, settings)
    return {
        "changed": bool(added or removed or replaced),
        "classes_added": sorted(set(new["cls"]) - set(old["cls"])),
        "classes_removed": sorted(set(old["cls"]) - set(new["cls"])),
        "images_added": added,
        "images_removed": removed,
        "images_replaced": replaced,
        "classes": rows,
        "shifts": [
            (row["cls"], stat) for row in rows for stat in (*STATS, "embedding") if row[stat]["shift"]
        ],
    }


def _digests(frame: pd.DataFrame) -> dict[str, str]:
    return dict(zip(frame["image"], frame["sha256"] + frame["mask_sha256"], strict=True))


def _class_row(cls: str, old: pd.DataFrame, new: pd.DataFrame) -> dict[str, Any]:
    a, b = (part[part["kind"] == "defect"] for part in (old, new))
    a, b = (part.assign(area=part["width"] * part["height"]) for part in (a, b))
    came = b[~(b["sha256"] + b["mask_sha256"]).isin(a["sha256"] + a["mask_sha256"])]
    counts = {"old": len(a), "new": len(b), "came": len(came)}
    clean = {"clean_old": len(old) - len(a), "clean_new": len(new) - len(b)}
    medians = {stat: {"median_old": _median(a, stat), "median_new": _median(b, stat)} for stat in STATS}
    tests: dict[str, Any] = {stat: {**medians[stat], **_number(a, came, stat)} for stat in STATS}
    tests["embedding"] = {"median_old": None, "median_new": None, **_embedding(a, came)}
    return {"cls": cls, **counts, **clean, **tests}


def _median(frame: pd.DataFrame, stat: str) -> float | None:
    measured = stat in frame and bool(frame[stat].notna().any())
    return float(frame[stat].median()) if measured else None


def _samples(old: pd.DataFrame, came: pd.DataFrame, stat: str) -> list[NDArray[Any]] | None:
    """The mean of each group, one array a side; None where a side has too few groups."""
    samples: list[NDArray[Any]] = []
    for frame in (old, came):
        kept = frame[frame[stat].notna()] if stat in frame else frame[:0]
        if stat == "embedding":
            means = [np.mean(np.stack(list(part[stat])), axis=0) for _, part in kept.groupby("group")]
            samples.append(np.asarray(means, dtype=np.float64))
        else:
            samples.append(kept.groupby("group")[stat].mean().to_numpy() if len(kept) else np.empty(0))
    return samples if min(map(len, samples)) >= MIN_SAMPLE else None


def _number(old: pd.DataFrame, came: pd.DataFrame, stat: str) -> dict[str, Any]:
    from scipy.stats import ks_2samp

    sides = _samples(old, came, stat)
    if sides is None:
        return {"effect": None, "p": None}
    test = ks_2samp(*sides, method="asymp")
    return {"effect": float(test.statistic), "p": float(test.pvalue)}


def _embedding(old: pd.DataFrame, came: pd.DataFrame) -> dict[str, Any]:
    """Distance of the sides' means over the root mean square distance from them; permutation test."""
    sides = _samples(old, came, "embedding")
    if sides is None:
        return {"effect": None, "p": None}
    both = np.concatenate(sides) - np.concatenate(sides).mean(0)  # (n, d)
    gram = both @ both.T
    weights = np.repeat([-1 / len(sides[0]), 1 / len(sides[1])], [len(side) for side in sides])
    squared = float(weights @ gram @ weights)  # of the distance of the means
    spread = np.concatenate([side - side.mean(0) for side in sides])
    rng, as_far = np.random.default_rng(0), 1
    for start in range(0, PERMUTATIONS, CHUNK):
        count = min(CHUNK, PERMUTATIONS - start)
        drawn = rng.permuted(np.tile(weights, (count, 1)), axis=1)
        as_far += int((((drawn @ gram) * drawn).sum(1) >= squared * (1 - 1e-9)).sum())
    scale = max(float(np.sqrt((spread**2).sum(1).mean())), 1e-12)
    return {"effect": max(squared, 0.0) ** 0.5 / scale, "p": as_far / (PERMUTATIONS + 1)}


def _judge(rows: list[dict[str, Any]], settings: DriftSettings) -> None:
    """Correct the p-values of all classes and statistics together and say which are shifts."""
    from scipy.stats import false_discovery_control

    tests = [(stat, row[stat]) for row in rows for stat in (*STATS, "embedding")]
    made = [test for _, test in tests if test["p"] is not None]
    corrected: Any = false_discovery_control([test["p"] for test in made]) if made else ()
    for test, p in zip(made, corrected, strict=True):
        test["p"] = float(p)
    for stat, test in tests:
        least = settings.min_distance if stat == "embedding" else settings.min_ks
        test["shift"] = test["p"] is not None and test["p"] < settings.alpha and test["effect"] >= least
