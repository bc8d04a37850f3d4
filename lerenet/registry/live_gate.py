"""The gate's question about the live model: does it mark or call more, and harm nothing?"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from scipy.stats import binomtest

from lerenet.enrolment.decision import SILENT
from lerenet.enrolment.verdicts import NOT_CALIBRATED, as_served, episodes
from lerenet.evaluation.calls import ShareGain, share_gain
from lerenet.evaluation.located import chance_of_hits
from lerenet.evaluation.resampling import PairedGain, chance_of_gain, paired_bootstrap
from lerenet.params import GateSettings


@dataclass(frozen=True)
class KnownClasses:
    """Classes that both know.

    Attributes:
        gain: in mIoU, over the defects' pixels.
        p: of that gain, as `chance_of_gain` has it.
        called: share of the defects that are called NG.
    """

    gain: PairedGain
    p: float
    called: ShareGain


@dataclass(frozen=True)
class NewClasses:
    """Classes that the champion does not know.

    Attributes:
        gain: in their mIoU; the champion has 0.
        p: how often marks that know nothing of the defects' places would hit them as well (`chance_of_hits`).
    """

    gain: PairedGain
    p: float


@dataclass(frozen=True)
class LiveComparison:
    """Champion against challenger on the same images, each left out.

    A class that the champion does not know is asked about by itself: against a model that says nothing of it, any
    mark would be a gain, a mark at random too.

    Attributes:
        known: the gain in classes that both know; None without one.
        new: the gain in classes that the champion does not know; None without one.
        false_calls: share of the good parts that are called NG, of those that the champion decides; None without.
        harmed: sentences on what gets worse.
    """

    known: KnownClasses | None
    new: NewClasses | None
    false_calls: ShareGain | None
    harmed: tuple[str, ...]


def compare(
    champion: pd.DataFrame, challenger: pd.DataFrame, settings: GateSettings, allowed: float, seed: int = 0
) -> LiveComparison | None:
    """Compare the rows of both (`lerenet.registry.live`) on the images that both have; None without a defect.

    Args:
        allowed: share of good parts that may be called NG (``enrolment.false_calls``), 0 to 1.
    """
    both = pd.merge(champion[["cls", "image"]], challenger[["cls", "image"]]).sort_values(["cls", "image"])
    before, after = (pd.merge(both, rows, how="left") for rows in (champion, challenger))
    bad = after["defect"].to_numpy(bool)
    if not bad.any():
        return None
    strange = before["reader"].eq("").to_numpy()
    known, harmed = _known(before[bad & ~strange], after[bad & ~strange], settings, seed)
    new = _new(before[bad & strange], after[bad & strange], settings, seed)
    decided = ~bad & ~strange & before["verdict"].ne(NOT_CALIBRATED).to_numpy()
    false_calls = share_gain(before[decided], after[decided], settings.draws, seed, settings.confidence)
    fresh = after[~bad & ~decided & after["verdict"].ne(NOT_CALIBRATED).to_numpy()]
    harmed += [*_called_more(false_calls, settings), *_too_many(fresh, allowed, settings.confidence)]
    return LiveComparison(known, new, false_calls, tuple(harmed))


def _known(
    before: pd.DataFrame, after: pd.DataFrame, settings: GateSettings, seed: int
) -> tuple[KnownClasses | None, list[str]]:
    """Defects of classes that both know, and sentences on what gets worse there."""
    draws, confidence = settings.draws, settings.confidence
    called = share_gain(before, after, draws, seed, confidence)
    missed = share_gain(before, after, draws, seed, confidence, SILENT)
    if called is None or missed is None:
        return None, []
    one, two = (episodes(as_served(rows)) for rows in (before, after))
    gain = paired_bootstrap(one, two, draws, seed, confidence)
    known = KnownClasses(gain, chance_of_gain(one, two, draws, seed), called)
    return known, _harmed(known, missed, settings)


def _new(before: pd.DataFrame, after: pd.DataFrame, settings: GateSettings, seed: int) -> NewClasses | None:
    """Defects of classes that the champion does not know."""
    if before.empty:
        return None
    one, two = (episodes(as_served(rows)) for rows in (before, after))
    gain = paired_bootstrap(one, two, settings.draws, seed, settings.confidence)
    return NewClasses(gain, chance_of_hits(two))


def _harmed(known: KnownClasses, missed: ShareGain, settings: GateSettings) -> list[str]:
    gain, called = known.gain, known.called
    reasons = [
        f"live class {cls} loses {-change:.1f} points, more than {settings.max_class_drop:.1f}"
        for cls, change in sorted(gain.class_gain.items())
        if change < -settings.max_class_drop
    ]
    if gain.high < 0:
        reasons.append(f"the live model marks surely worse: {gain.gain:+.2f} points of mIoU")
    if called.change.high < 0:
        reasons.append(f"the live model surely calls fewer defects: {called.change.value:+.1f} points")
    if missed.change.low > 0:
        reasons.append(f"the live model surely lets more defects pass: {missed.change.value:+.1f} points")
    return reasons


def _called_more(false_calls: ShareGain | None, settings: GateSettings) -> list[str]:
    if not false_calls or false_calls.change.value <= settings.max_false_calls or false_calls.change.low <= 0:
        return []
    return [
        f"good parts called NG: {false_calls.after:.1f} %, {false_calls.change.value:+.1f} points, "
        f"more than {settings.max_false_calls:.1f}"
    ]


def _too_many(fresh: pd.DataFrame, allowed: float, confidence: float) -> list[str]:
    """Good parts that only the challenger decides: it may not surely call more of them NG than was asked for."""
    calls = int((fresh["verdict"] == "NG").sum())
    if not calls or binomtest(calls, len(fresh), allowed, "greater").pvalue > (1 - confidence) / 2:
        return []
    return [f"good parts of new classes called NG: {calls} of {len(fresh)}, surely more than {allowed:.1%}"]
