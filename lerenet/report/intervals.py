"""Intervals over all folds together, by the bootstrap that the gate uses, in the report's shape."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lerenet.bootstrap import PairedGain, interval, paired_bootstrap
from lerenet.params import Params


@dataclass(frozen=True)
class Interval:
    """Bounds in points of IoU."""

    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Bounds of the mean over folds of mIoU and of FB-IoU."""

    miou: Interval
    fb_iou: Interval


def intervals_of(counts: pd.DataFrame, params: Params) -> Intervals | None:
    """Bounds for one model's episodes of all its folds; None without episodes."""
    if counts.empty:
        return None
    gate = params.gate
    found = interval(counts, gate.draws, params.seed, gate.confidence)
    fb = Interval(found["fb_low"], found["fb_high"])
    return Intervals(Interval(found["miou_low"], found["miou_high"]), fb)


def class_intervals(counts: pd.DataFrame, params: Params) -> dict[str, tuple[float, float, float]]:
    """IoU, low and high of each class, in points."""
    gate = params.gate
    table = {}
    for cls, rows in counts.groupby("cls") if len(counts) else []:
        found = interval(rows, gate.draws, params.seed, gate.confidence)
        table[str(cls)] = (found["miou"], found["miou_low"], found["miou_high"])
    return table


def gain_over(champion: pd.DataFrame, challenger: pd.DataFrame, params: Params) -> PairedGain:
    """Paired difference of two models that were scored on the same episodes."""
    gate = params.gate
    return paired_bootstrap(champion, challenger, gate.draws, params.seed, gate.confidence)
