"""How sure it is that marks lie where the defects are, for few parts and with nothing to compare with."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lerenet.evaluation.metrics import COUNTS


def chance_of_hits(rows: pd.DataFrame, by: str = "group") -> float:
    """How often marks that know nothing of the defects' places would hit them as well: an upper bound of p.

    Marks of m pixels, as likely at any place of a picture of n, hit m t / n of the t pixels of its defect on average,
    so hits / (m t / n) has the mean 1, and so has its mean with 1, a bet of half the stake. Parts know nothing of each
    other: the product over them has the mean 1 too, and reaches 1 / p with the probability p at most (Markov's
    inequality; such bets are known as e-values). Nothing marked on a part is a bet that is lost.

    Args:
        rows: counts of images with a defect, ``tp``, ``fp``, ``fn``, ``tn``.
        by: column that says which images are of one part.
    """
    tp, fp, fn, tn = (rows[name].to_numpy(float) for name in COUNTS)
    expected = (tp + fp) * (tp + fn) / (tp + fp + fn + tn)
    sums = pd.DataFrame({"hits": tp, "expected": expected}).groupby(rows[by].to_numpy()).sum()
    ratio = sums["hits"] / sums["expected"].where(sums["expected"] > 0, 1.0)
    return float(min(1.0, np.exp(-np.log((1 + ratio) / 2).sum())))


def chance_of_fit(
    marks: NDArray[np.bool_], masks: NDArray[np.bool_], draws: int = 10_000, seed: int = 0
) -> float:
    """How often masks dealt out to other images would fit the marks as well: p of a permutation test of mean IoU.

    Masks that belong to their images fit better than others', however little of them is marked; swapped or shifted
    ones don't. Images of one part have masks alike, which only raises p.

    Args:
        marks, masks: of the same images, (N, H, W).
        draws: permutations.
    """
    one, two = (part.reshape(len(part), -1).astype(np.float64) for part in (marks, masks))
    both = one @ two.T
    union = one.sum(1)[:, None] + two.sum(1)[None] - both
    fit = both / np.maximum(union, 1)
    rng, rows = np.random.default_rng(seed), np.arange(len(fit))
    own = np.trace(fit)
    as_well = sum(fit[rows, rng.permutation(len(fit))].sum() >= own - 1e-9 for _ in range(draws))
    return float(as_well + 1) / (draws + 1)
