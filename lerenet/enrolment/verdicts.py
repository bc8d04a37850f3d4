"""What the live model says of every image that it was given, each left out: the rows that a gate compares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest
from torchmetrics.functional.classification import binary_auroc

from lerenet.enrolment.decision import SILENT, OperatingPoint, verdict_of
from lerenet.enrolment.leave_out import ALIKE, choices, operating_point, surface
from lerenet.enrolment.readers import READERS
from lerenet.evaluation.metrics import COUNTS, iou, summed
from lerenet.evaluation.regions import OVERLAP, REGIONS

SIZES = {"small": 0.001, "medium": 0.01, "large": 1.0}  # of a defect: its share of the image, at most
NOT_CALIBRATED = "not calibrated"


def left_out(readings: pd.DataFrame, false_calls: float, reviews: float) -> pd.DataFrame:
    """One row for each image of a class, by the reader and the thresholds that the other folds chose.

    Args:
        readings: of `lerenet.enrolment.leave_out.readings`.
        false_calls, reviews: see `lerenet.enrolment.decision.calibrate`.
    """
    parts = []
    for fold, reader in choices(readings).items():
        asked = readings[readings["fold"] == fold]
        if not (asked["reader"] == reader).any():
            reader = READERS[0]  # without this fold there were too few examples to fit a head to
        own = asked[asked["reader"] == reader]
        others = readings[readings["fold"] != fold]
        parts.append(judged(own, operating_point(others, reader, false_calls, reviews), surface(others)))
    return pd.concat(parts, ignore_index=True) if parts else readings.assign(verdict="")


def judged(rows: pd.DataFrame, point: OperatingPoint | None, bound: float | None) -> pd.DataFrame:
    """The rows with their verdicts."""
    pairs = zip(rows["score"], rows[ALIKE], strict=True)
    return rows.assign(verdict=[verdict_of(point, bound, score, alike) for score, alike in pairs])


def as_served(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as an inspector sees them: where the class is silent, nothing is marked."""
    silent = rows["verdict"].isin(SILENT).to_numpy()
    tp, fp = (np.where(silent, 0, rows[name]) for name in ("tp", "fp"))
    return rows.assign(tp=tp, fp=fp, fn=rows["fn"] + rows["tp"] - tp, tn=rows["tn"] + rows["fp"] - fp)


def episodes(rows: pd.DataFrame, cls: str = "") -> pd.DataFrame:
    """Rows as `lerenet.evaluation.resampling` reads them: an image is an episode, a group is what is drawn."""
    named = rows if not cls else rows.assign(cls=cls)
    keys = named["cls"].astype(str) + "\n" + (named["image"] if "image" in named else named.index.astype(str))
    return named.assign(split="live", kind="defect", episode=keys, query=named["group"])


def scores(rows: pd.DataFrame) -> dict[str, Any]:
    """What a class's rows come to; shares in percent, None where nothing was asked.

    Args:
        rows: of `left_out`.

    Returns:
        ``iou`` over the pixels of all examples, ``pro`` (mean per-region overlap), ``auroc`` of images by score,
        ``called`` (defects NG), ``missed`` (defects OK, or of another surface) by size, ``false_calls`` (good parts NG)
        with its exact 95 % interval, ``reviews`` (good parts to review), ``marked_good`` (good parts with a mark,
        whatever the verdict).
    """
    bad, judged = rows[rows["defect"]], rows[rows["verdict"] != NOT_CALIBRATED]
    good, defects = judged[~judged["defect"]], judged[judged["defect"]]
    calls = int((good["verdict"] == "NG").sum())
    low, high = binomtest(calls, len(good)).proportion_ci() if len(good) else (None, None)
    size = (defects["tp"] + defects["fn"]) / defects[COUNTS].sum(axis=1)
    bounds = [0.0, *SIZES.values()]
    return {
        "images": len(rows), "groups": int(rows["group"].nunique()),
        "iou": float(iou(summed(bad))) if len(bad) else None,
        "pro": 100 * float(bad[OVERLAP].sum() / bad[REGIONS].sum()) if bad[REGIONS].sum() else None,
        "auroc": auroc(rows),
        "called": _share(defects["verdict"] == "NG"),
        "missed": {
            name: _share(defects.loc[(size > bounds[i]) & (size <= bounds[i + 1]), "verdict"].isin(SILENT))
            for i, name in enumerate(SIZES)
        },
        "false_calls": _share(good["verdict"] == "NG"),
        "false_calls_low": None if low is None else 100 * float(low),
        "false_calls_high": None if high is None else 100 * float(high),
        "reviews": _share(good["verdict"] == "REVIEW"),
        "marked_good": _share(rows.loc[~rows["defect"], "fp"] > 0),
    }  # fmt: skip


def auroc(rows: pd.DataFrame) -> float | None:
    """Of images by their score, in percent; None without both kinds."""
    if rows["defect"].nunique() < 2:
        return None
    truth = torch.tensor(rows["defect"].to_numpy(np.int64))
    return 100 * float(binary_auroc(torch.tensor(rows["score"].to_numpy(np.float64)), truth))


def _share(chosen: pd.Series) -> float | None:
    return 100 * float(chosen.mean()) if len(chosen) else None
