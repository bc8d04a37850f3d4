"""Verdicts on images, compared: shares of defects called and of good parts called, paired and clustered by group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lerenet.evaluation.metrics import Array
from lerenet.evaluation.resampling import Change, percentiles


@dataclass(frozen=True)
class ShareGain:
    """A difference between two shares of the same images, in points.

    Attributes:
        change: after minus before, with its interval.
        before, after: the shares.
        p: one-sided, how often so large a gain comes about when the two do not differ.
        images: how many it rests on.
    """

    change: Change
    before: float
    after: float
    p: float
    images: int


def share_gain(
    before: pd.DataFrame,
    after: pd.DataFrame,
    draws: int,
    seed: int,
    confidence: float,
    verdicts: Sequence[str] = ("NG",),
) -> ShareGain | None:
    """How much more often ``after`` gives the images one of the ``verdicts`` than ``before``; None without images.

    Groups are drawn anew within each class for the interval, and exchanged between the two for p (a permutation
    test), as `lerenet.evaluation.resampling` does with episodes.

    Args:
        before, after: one row an image, the same images in one order: ``cls``, ``group``, ``verdict``.
    """
    if before.empty:
        return None
    calls = [rows["verdict"].isin(verdicts).to_numpy(np.float64) for rows in (before, after)]
    called: Array = np.stack(calls, axis=1)
    rng = np.random.default_rng(seed)
    drawn, swapped = np.zeros((draws, 3)), np.zeros(draws)
    for sums in _groups(before, called):
        weights = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=draws)
        drawn += weights @ sums
        swapped += rng.choice([-1.0, 1.0], (draws, len(sums))) @ (sums[:, 1] - sums[:, 0])
    shares = 100 * called.mean(0)
    gains = 100 * (drawn[:, 1] - drawn[:, 0]) / drawn[:, 2]
    total = float(called[:, 1].sum() - called[:, 0].sum())
    p = (int((swapped >= total - 1e-9).sum()) + 1) / (draws + 1)
    low, high = percentiles(gains, confidence)
    return ShareGain(
        Change(float(shares[1] - shares[0]), low, high), float(shares[0]), float(shares[1]), p, len(before)
    )


def _groups(rows: pd.DataFrame, called: Array) -> Iterator[Array]:
    """Of each class: calls before and after, and images, of each of its groups, (groups, 3)."""
    for places in rows.reset_index(drop=True).groupby("cls").indices.values():
        _, cluster = np.unique(rows["group"].to_numpy(str)[places], return_inverse=True)
        sums = np.zeros((int(cluster.max()) + 1, 3))
        np.add.at(sums, cluster, np.column_stack([called[places], np.ones(len(places))]))
        yield sums
