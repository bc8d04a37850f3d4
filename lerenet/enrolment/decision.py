"""OK, REVIEW or NG: an image's score against what good parts score that were left out.

The score of an image is the mean of its most suspicious pixels (`lerenet.enrolment.readers.Read.scores`). Pixels are
marked without the good parts, which would take the defect's edges away; whether the image is called is the question
that they answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FEWEST = 5  # good parts below which nothing is calibrated
SIMULATED = 20_000

STRANGE = 0.005  # share of a class's own images that may be taken for another surface's

SILENT = ("OK", "other surface")  # verdicts of a class that marks nothing
Verdict = Literal["OK", "REVIEW", "NG", "not calibrated", "other surface"]


@dataclass(frozen=True)
class OperatingPoint:
    """Scores at which an image is called.

    Attributes:
        review: from here on a person looks.
        bad: from here on the image is called bad.
        false_calls: share of good parts that may be called bad, as asked for.
        parts: how many left-out good parts the two stand on.
    """

    review: float
    bad: float
    false_calls: float
    parts: int

    def verdict(self, score: float) -> Verdict:
        """What an image of this score is."""
        if score > self.bad:
            return "NG"
        return "REVIEW" if score > self.review else "OK"


def verdict_of(point: OperatingPoint | None, surface: float | None, score: float, alike: float) -> Verdict:
    """What a class says of an image of this score, whose surface is so much alike its own."""
    if surface is not None and alike < surface:
        return "other surface"
    return "not calibrated" if point is None else point.verdict(score)


def calibrate(scores: Sequence[float], false_calls: float, reviews: float) -> OperatingPoint | None:
    """The thresholds that left-out good parts give; None for fewer than `FEWEST`.

    The next good part lies above a threshold as often as was asked for. Where (n + 1) times the share is 1 or more,
    it is the score of the part at this place from the top. Below, n is too small to count so small a share: then it is
    the highest score, and not below mean + k s of the scores, with k such that the next part exceeds it as often as
    asked (`beyond`).

    Args:
        scores: of good parts, each scored by a memory without its group.
        false_calls: share that may be called bad, 0 to 1.
        reviews: share that a person may be asked about, not less than ``false_calls``.
    """
    if len(scores) < FEWEST:
        return None
    falling = np.sort(np.asarray(scores, float))[::-1]
    review, bad = (_above(falling, share) for share in (max(reviews, false_calls), false_calls))
    return OperatingPoint(min(review, bad), bad, false_calls, len(falling))


def surface_bound(alike: Sequence[float]) -> float | None:
    """How alike to what a class knows an image of its surface is at least; None for fewer than `FEWEST` left-out ones.

    Below lie at most `STRANGE` of the class's images, those to come included, as in `calibrate`.
    """
    if len(alike) < FEWEST:
        return None
    return -_above(np.sort(-np.asarray(alike, float))[::-1], STRANGE)


def _above(falling: NDArray[np.float64], share: float) -> float:
    """The threshold above which at most ``share`` of the scores lie, and of parts to come about as many."""
    count = len(falling)
    if not share:
        return float(falling[0])
    place = math.floor((count + 1) * share) - 1  # of count + 1 scores the next is as likely at any place
    if place >= count:
        return float(np.nextafter(falling[-1], -np.inf))
    if place >= 0:
        return float(falling[place])
    return max(float(falling[0]), float(falling.mean() + beyond(count, share) * falling.std(ddof=1)))


@cache
def beyond(count: int, share: float) -> float:
    """How many standard deviations above the mean of ``count`` scores the next exceeds in ``share`` of the cases.

    A score is a mean of a picture's highest values, so it is taken for a Gumbel variable, which is skewed as such
    highest values are; a normal one would promise too little. The quantile of (x - mean) / s is that of simulated
    samples, for it depends on neither place nor scale.
    """
    drawn = np.random.default_rng(0).gumbel(size=(SIMULATED, count + 1))
    known, new = drawn[:, :-1], drawn[:, -1]
    return float(np.quantile((new - known.mean(1)) / known.std(axis=1, ddof=1), 1 - share))
