"""IoU from counts: a class's IoU is the sum of intersections over the sum of unions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lerenet.bootstrap import COUNTS


def confusion(prediction: Tensor, truth: Tensor) -> Tensor:
    """Pixels of each outcome.

    Args:
        prediction: (B, H, W) bool.
        truth: (B, H, W) bool.

    Returns:
        (B, 4) int64: true positives, false positives, false negatives, true negatives.
    """
    hit, miss = prediction & truth, ~prediction & truth
    false = prediction & ~truth
    sums = [part.flatten(1).sum(1) for part in (hit, false, miss, ~prediction & ~truth)]
    return torch.stack(sums, dim=1)


def ratio(part: float, whole: float) -> float:
    """``part / whole`` in points; 0 when there is nothing to divide by."""
    return 100.0 * part / whole if whole else 0.0


def class_iou(counts: pd.DataFrame) -> dict[str, float]:
    """IoU of each class in points (0 to 100), from the counts of its episodes."""
    found = {}
    for cls, rows in counts.groupby("cls"):
        tp, fp, fn, _ = (float(rows[name].sum()) for name in COUNTS)
        found[str(cls)] = ratio(tp, tp + fp + fn)
    return found


def miou(counts: pd.DataFrame) -> float:
    """Mean of the classes' IoU, in points."""
    return float(np.mean(list(class_iou(counts).values())))


def fb_iou(counts: pd.DataFrame) -> float:
    """Mean of foreground and background IoU over all episodes, classes ignored, in points."""
    tp, fp, fn, tn = (float(counts[name].sum()) for name in COUNTS)
    return (ratio(tp, tp + fp + fn) + ratio(tn, tn + fp + fn)) / 2


def clean_scores(counts: pd.DataFrame) -> dict[str, float]:
    """On clean queries: the share of pixels falsely marked, and of images left wholly clean (0..1)."""
    false, total = float(counts["fp"].sum()), float(counts[["fp", "tn"]].to_numpy().sum())
    return {
        "false_share": false / total if total else 0.0,
        "images_clean_share": float((counts["fp"] == 0).mean()),
        "n": len(counts),
    }
