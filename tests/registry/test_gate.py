"""The gate's verdicts and guard rails, on counts alone."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
from scipy.stats import binom

from benchmarks import gate as simulation
from lerenet.errors import PromotionError
from lerenet.evaluation.resampling import Change, paired_bootstrap
from lerenet.params import GateSettings
from lerenet.registry import gate
from lerenet.registry.gate import Guards, Route, Verdict, decide, episodes_needed, forced
from lerenet.registry.live_gate import LiveComparison
from tests.helpers.counts import make_counts

SETTINGS = GateSettings(draws=1000)
GOOD = Guards(validated=True, latency_ms=10, export_agrees=True)
CHAMPION = make_counts()


def shifted(counts: pd.DataFrame, pixels: int, only: str = "") -> pd.DataFrame:
    """``counts`` with ``pixels`` of each defect found (or lost), in every class or one."""
    rows = counts["cls"] == only if only else counts["cls"] != ""
    moved = counts["fn"].clip(upper=pixels) if pixels > 0 else (-counts["tp"]).clip(lower=pixels)
    moved = moved.where(rows, 0)
    return counts.assign(tp=counts["tp"] + moved, fn=counts["fn"] - moved)


def test_without_a_champion_the_first_valid_model_becomes_it() -> None:
    verdict = decide(None, CHAMPION, SETTINGS, GOOD)
    assert verdict.outcome == "first"
    assert verdict.promotes
    assert verdict.scores["miou_low"] < verdict.scores["miou"]


def test_a_better_challenger_is_promoted() -> None:
    verdict = decide(CHAMPION, shifted(CHAMPION, 8), SETTINGS, GOOD)
    assert verdict.outcome == "promoted"
    assert verdict.gain is not None
    assert verdict.gain.low > 0


def test_a_spoiled_challenger_is_rejected_with_its_interval() -> None:
    verdict = decide(CHAMPION, shifted(CHAMPION, -60), SETTINGS, GOOD)
    assert verdict.outcome == "rejected"
    assert not verdict.promotes
    assert verdict.gain is not None
    assert verdict.gain.high < 0
    assert "interval" in " ".join(verdict.reasons)


def test_a_tenth_of_a_point_on_novel_classes_is_no_reason_and_a_whole_one_is() -> None:
    live = LiveComparison(None, None, None, ())
    little, much = shifted(CHAMPION, -1), shifted(CHAMPION, -60)
    for challenger, harmed in ((little, False), (much, True)):
        verdict = decide(CHAMPION, challenger, SETTINGS, GOOD, live=live)
        assert verdict.gain is not None
        assert verdict.gain.high < 0
        assert (-verdict.gain.gain > SETTINGS.max_novel_drop) == harmed
        assert any("novel classes surely get worse" in reason for reason in verdict.reasons) == harmed
    strict = SETTINGS.model_copy(update={"max_novel_drop": 0.0})
    assert "novel classes surely get worse" in decide(CHAMPION, little, strict, GOOD, live=live).reasons[0]


def test_the_same_model_again_is_rejected() -> None:
    assert decide(CHAMPION, CHAMPION, SETTINGS, GOOD).outcome == "rejected"


def test_doubt_is_inconclusive_and_says_how_many_episodes_would_settle_it() -> None:
    noise = make_counts(seed=9, queries=8).assign(episode=CHAMPION["episode"], query=CHAMPION["query"])
    verdict = decide(
        CHAMPION,
        noise,
        SETTINGS.model_copy(update={"max_drop": {"fb_iou": 50.0}, "max_class_drop": 90.0}),
        GOOD,
    )
    assert verdict.outcome == "inconclusive"
    assert verdict.episodes_needed is not None
    assert verdict.gain is not None
    assert verdict.episodes_needed > verdict.gain.episodes
    assert str(verdict.episodes_needed) in verdict.reasons[0]


def test_episodes_needed_follow_the_square_of_the_width() -> None:
    verdict = decide(CHAMPION, shifted(CHAMPION, 8), SETTINGS, GOOD)
    assert verdict.gain is not None
    gain = dataclasses.replace(verdict.gain, gain=1.0, low=-1.0, high=3.0, episodes=100)
    assert episodes_needed(gain, 0.0) == 400
    assert episodes_needed(gain, 1.0) is None


@pytest.mark.parametrize(
    ("guards", "word"),
    [
        (dataclasses.replace(GOOD, validated=False), "validation"),
        (dataclasses.replace(GOOD, latency_ms=5000), "5000 ms"),
        (dataclasses.replace(GOOD, latency_ms=float("nan")), "budget"),
        (dataclasses.replace(GOOD, export_agrees=False), "registered model"),
    ],
)
def test_each_guard_rejects_even_a_better_or_first_model(guards: Guards, word: str) -> None:
    for champion in (None, CHAMPION):
        verdict = decide(champion, shifted(CHAMPION, 8), SETTINGS, guards)
        assert verdict.outcome == "rejected"
        assert word in " ".join(verdict.reasons)


def test_a_class_that_loses_much_rejects_a_better_mean() -> None:
    better = shifted(shifted(CHAMPION, 60), -90, only="A1")
    verdict = decide(CHAMPION, better, SETTINGS, GOOD)
    assert verdict.gain is not None
    assert verdict.gain.gain > 0
    assert verdict.outcome == "rejected"
    assert "class A1 loses" in verdict.reasons[0]


def test_fb_iou_may_not_fall_beyond_its_margin() -> None:
    noisy = shifted(CHAMPION, 200).assign(fp=CHAMPION["fp"] + 100, tn=CHAMPION["tn"] - 100)
    strict = SETTINGS.model_copy(update={"max_drop": {"fb_iou": 0.0}, "max_class_drop": 90.0})
    verdict = decide(CHAMPION, noisy, strict, GOOD)
    if verdict.gain is not None and verdict.gain.others["fb_iou"].value < 0:
        assert "FB-IoU" in " ".join(verdict.reasons)
    worse = CHAMPION.assign(fp=CHAMPION["fp"] + 300, tn=CHAMPION["tn"] - 300)
    assert "FB-IoU gets worse by" in " ".join(decide(CHAMPION, worse, SETTINGS, GOOD).reasons)


def test_nan_counts_are_rejected() -> None:
    poisoned = CHAMPION.astype({"tp": float})
    poisoned.loc[0, "tp"] = float("nan")
    verdict = decide(CHAMPION, poisoned, SETTINGS, GOOD)
    assert verdict.outcome == "rejected"
    assert "NaN" in verdict.reasons[0]


def test_other_episodes_are_refused() -> None:
    with pytest.raises(PromotionError, match="different episodes"):
        decide(CHAMPION, CHAMPION.iloc[:-1], SETTINGS, GOOD)


def test_force_records_operator_and_reason() -> None:
    before = Verdict("rejected", ("too slow",))
    after = forced(before, "ada", "the line stands still")
    assert after.outcome == "forced"
    assert after.promotes
    assert "ada" in after.reasons[0]
    assert "too slow" in after.reasons
    with pytest.raises(PromotionError):
        forced(before, "ada", " ")


# -- how often it is right (a thousand of each: `python -m benchmarks.gate`, and the slow test) ------


def test_a_gain_that_chance_gives_too_often_is_not_promoted(monkeypatch: pytest.MonkeyPatch) -> None:
    better = shifted(CHAMPION, 8)
    monkeypatch.setattr(gate, "chance_of_gain", lambda *words: 0.03)
    verdict = decide(CHAMPION, better, SETTINGS, GOOD)
    assert verdict.outcome == "inconclusive"
    assert "p 0.03" in verdict.reasons[0]
    monkeypatch.setattr(gate, "chance_of_gain", lambda *words: 0.025)
    assert decide(CHAMPION, better, SETTINGS, GOOD).outcome == "promoted"


def test_without_a_difference_next_to_nothing_is_promoted_and_a_large_gain_is() -> None:
    settings = GateSettings(draws=300)
    assert simulation.promoted(20, 0.0, settings, seed=1) <= 3  # at 2.5 %, four of 20 come once in 700 times
    assert simulation.promoted(5, 3 * simulation.GAIN, settings, seed=1) == 5
    assert simulation.promoted(5, 3 * simulation.GAIN, settings, seed=1, collapsed=1) == 0


@pytest.mark.slow
def test_a_thousand_decisions_without_a_difference_and_some_with_a_gain() -> None:
    """At most 2.5 % promoted, and the power of a normal test, each within the binomial's own chance (0.1 %)."""
    bare = GateSettings(draws=300, max_class_drop=100, max_drop={})
    assert simulation.promoted(1000, 0.0, bare, seed=2) <= binom.ppf(0.999, 1000, 0.025)
    _, _, power = simulation.theory(simulation.GAIN, bare, seed=2)
    low, high = binom.ppf([0.0005, 0.9995], 300, power)
    assert (
        low - 9 <= simulation.promoted(300, simulation.GAIN, bare, seed=3) <= high + 9
    )  # 3 points: a normal curve
    assert simulation.promoted(50, 3 * simulation.GAIN, GateSettings(draws=500), seed=2, collapsed=1) == 0


def test_what_can_not_differ_costs_the_others_nothing() -> None:
    """The live model changes, the network does not: the gain on novel classes is 0, and the level is shared by two."""
    same = Route("novel", Change(0.0, 0.0, 0.0), 1.0)
    marks, calls = (Route(name, Change(2.0, 0.5, 4.0), p) for name, p in (("marks", 0.012), ("calls", 0.4)))
    verdict = Verdict("rejected", (), paired_bootstrap(CHAMPION, CHAMPION, 100))
    assert gate._judge([marks, calls, same], [], verdict, SETTINGS).outcome == "promoted"
    other = Route("novel", Change(0.1, -0.2, 0.4), 0.3)
    assert gate._judge([marks, calls, other], [], verdict, SETTINGS).outcome == "inconclusive"
