"""The stated rules by which figures pick episodes."""

from __future__ import annotations

import numpy as np
import pandas as pd

RANKS = ("best", "median", "worst")


def choose_episodes(counts: pd.DataFrame) -> pd.DataFrame:
    """The best, the median and the worst episode of each class.

    The rule: of the 1-shot defect episodes of protocol "groups" of one model, ordered by IoU and then
    by episode number, take the highest IoU, the middle one (the lower of two) and the lowest. Among
    equal IoU the smaller episode number comes first.

    Args:
        counts: rows of ``counts.parquet`` of one model.

    Returns:
        The chosen rows of ``counts`` with the column ``rank`` ("best", "median" or "worst"), ordered by
        class and rank. A class with fewer than three episodes shows an episode more than once.
    """
    wanted = counts[
        (counts["protocol"] == "groups")
        & (counts["kind"] == "defect")
        & (counts["shots"] == 1)
        & counts["iou"].notna()
    ]
    chosen = []
    for _, rows in wanted.groupby("cls", sort=True):
        rising = rows.sort_values(["iou", "episode"])
        falling = rows.sort_values(["iou", "episode"], ascending=[False, True])
        picked = (falling.iloc[:1], rising.iloc[[(len(rising) - 1) // 2]], rising.iloc[:1])
        chosen += [row.assign(rank=rank) for rank, row in zip(RANKS, picked, strict=True)]
    if not chosen:
        return wanted.assign(rank=pd.Series(dtype=str))
    return pd.concat(chosen, ignore_index=True)


def choose_extremes(episodes: pd.DataFrame, measure: str, lowest: bool, total: int) -> pd.DataFrame:
    """The most extreme episode of each class by the column ``measure``, then of those the ``total`` most extreme.

    Args:
        episodes: columns ``cls``, ``episode`` and ``measure``; rows without a finite measure are left out.
        measure: name of the column.
        lowest: whether the lowest values are the extreme ones, else the highest.
        total: how many rows at most, each of another class.

    Returns:
        The chosen rows, the most extreme first; among equals the smaller episode number.
    """
    measured = episodes[np.isfinite(episodes[measure].to_numpy(float))]
    ordered = measured.sort_values([measure, "episode"], ascending=[lowest, True])
    chosen: pd.DataFrame = ordered.drop_duplicates("cls").head(total).reset_index(drop=True)
    return chosen
