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
    marks: NDArray[np.bool_],
    masks: NDArray[np.bool_],
    groups: NDArray[np.str_],
    draws: int = 10_000,
    seed: int = 0,
) -> float:
    """How often masks dealt out to other parts would fit the marks as well: p of a permutation test of mean IoU.

    The fit of one part's marks to another's masks is the mean over their images; of a part's own, over its images.

    Args:
        marks, masks: of the same images, (N, H, W).
        groups: part of each image, (N,).
        draws: permutations.
    """
    one, two = (part.reshape(len(part), -1).astype(np.float32) for part in (marks, masks))
    both = one @ two.T
    fit = both / np.maximum(one.sum(1)[:, None] + two.sum(1)[None] - both, 1)
    parts = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    table = np.array([[fit[np.ix_(a, b)].mean() for b in parts] for a in parts])
    np.fill_diagonal(table, [np.diag(fit)[a].mean() for a in parts])
    rng, rows = np.random.default_rng(seed), np.arange(len(parts))
    own = np.trace(table) - 1e-6
    as_well = sum(table[rows, rng.permutation(len(parts))].sum() >= own for _ in range(draws))
    return float(as_well + 1) / (draws + 1)
