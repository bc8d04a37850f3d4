"""The gate's question about the live model: does it mark or call more, and harm nothing?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from scipy.stats import binomtest, mannwhitneyu

from lerenet.enrolment.decision import SILENT
from lerenet.enrolment.verdicts import NOT_CALIBRATED, as_served, episodes
from lerenet.evaluation.calls import ShareGain, share_gain
from lerenet.evaluation.located import chance_of_hits
from lerenet.evaluation.metrics import COUNTS, iou
from lerenet.evaluation.resampling import PairedGain, chance_of_gain, paired_bootstrap
from lerenet.params import GateSettings

FEWEST = 4  # new parts of a class below which nothing is said of their masks
UNFIT = 0.5  # of the old parts' IoU: below, new masks are doubted
DOUBT = 0.01  # p of the rank test
BELONG = 0.001  # p of masks dealt out to other images: up to it, they belong where they are


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


def doubted(champion: pd.DataFrame, new: pd.Series, fit: Callable[[str, list[str]], float]) -> list[str]:
    """Classes whose new masks the champion does not find again, though it finds the old ones.

    Masks swapped between images, shifted, or of another defect look so; and so does a defect that looks unlike before,
    but then what little is found lies on its own image's mask rather than on another's.

    Args:
        champion: its rows, each image left out.
        new: whether the champion was not given the image, one value a row.
        fit: of a class and names of its images: `lerenet.evaluation.located.chance_of_fit` of the champion's marks.
    """
    reasons = []
    rows = champion.assign(new=new.to_numpy(bool), iou=iou(champion[COUNTS].to_numpy(float)))
    for cls, part in rows[rows["defect"]].groupby("cls"):
        parts = part.groupby(["new", "group"])["iou"].mean()  # a part counts once
        fresh, old = (parts[parts.index.get_level_values("new") == kind] for kind in (True, False))
        if min(len(fresh), len(old)) < FEWEST or fresh.mean() >= UNFIT * old.mean():
            continue
        if mannwhitneyu(fresh, old, alternative="less").pvalue >= DOUBT:
            continue
        if fit(str(cls), [str(name) for name in part.loc[part["new"], "image"]]) > BELONG:
            reasons.append(
                f"{cls}: the champion finds the masks of the {len(fresh)} new parts at IoU {fresh.mean():.0f}, the old "
                f"at {old.mean():.0f}: do they belong to their images? If so, `lerenet promote VERSION --force`"
            )
    return reasons
