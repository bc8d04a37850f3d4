"""The gate: is the challenger better than the champion, beyond doubt and without harm elsewhere?"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from lerenet.errors import PromotionError
from lerenet.evaluation.metrics import COUNTS, METRICS, check_guards
from lerenet.evaluation.resampling import Change, PairedGain, chance_of_gain, interval, paired_bootstrap
from lerenet.params import GateSettings
from lerenet.registry.live_gate import LiveComparison

Outcome = Literal["promoted", "rejected", "inconclusive", "first", "forced"]


@dataclass(frozen=True)
class Guards:
    """What must hold beside the gain.

    Attributes:
        doubts: What is to be seen to before anything is learnt from the newest images.
        validated: Both validation stages passed.
        latency_ms: Time of one episode.
        export_agrees: The model as it is served gives the masks of the trained network.
        carries_code: It can be served without the project.
    """

    validated: bool
    latency_ms: float
    export_agrees: bool
    carries_code: bool = True
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the gate decided and why.

    Attributes:
        outcome: See `Outcome`.
        reasons: Sentences for a person.
        gain: The paired comparison on novel classes; None without a champion.
        live: That of the live models on the images that they were given, each left out; None without one.
        scores: The challenger's scores with intervals (`lerenet.evaluation.resampling.interval`).
        episodes_needed: For "inconclusive", about how many episodes would settle it.
        operator: Who forced it; empty otherwise.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    gain: PairedGain | None = None
    scores: dict[str, float] = field(default_factory=dict)
    episodes_needed: int | None = None
    operator: str = ""
    live: LiveComparison | None = None

    @property
    def promotes(self) -> bool:
        """Whether the alias moves."""
        return self.outcome in ("promoted", "first", "forced")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the ledger and the tags."""
        return asdict(self)


def decide(
    champion: pd.DataFrame | None,
    challenger: pd.DataFrame,
    settings: GateSettings,
    guards: Guards,
    seed: int = 0,
    live: LiveComparison | None = None,
) -> Verdict:
    """Compare two models: their counts on the same episodes of novel classes, and their live models.

    One sure gain is enough: in mIoU on novel classes, in the live model's mIoU, in the defects that it calls, or in
    classes that the champion does not know. Each in which the two differ is asked at its part of the level, so that one
    in forty looks sure where there is none. Nothing else may be surely worse.

    Args:
        champion: Counts of the champion, or None when there is none yet.
        challenger: Counts of the challenger.
        settings: Margins, draws and confidence.
        guards: What else must hold.
        seed: Seed of the resampling.
        live: The comparison of the live models (`lerenet.registry.live_gate.compare`).

    Raises:
        PromotionError: when the two were scored on different episodes.
        ParamsError: see `check_guards`.
    """
    check_guards(settings.max_drop)
    broken = _broken(challenger, settings, guards)
    if not _finite(challenger):
        return Verdict("rejected", tuple(broken))
    scores = interval(challenger, settings.draws, seed, settings.confidence)
    if champion is None:
        reasons = broken or ["there was no champion; the first valid model becomes it"]
        return Verdict("rejected" if broken else "first", tuple(reasons), scores=scores)
    gain = paired_bootstrap(champion, challenger, settings.draws, seed, settings.confidence)
    p = chance_of_gain(champion, challenger, settings.draws, seed)
    harmed = broken + _harmed(gain, settings) + list(live.harmed if live else ())
    if live and gain.high < 0 and -gain.gain > settings.max_novel_drop:
        harmed.append(
            f"novel classes surely get worse, by {-gain.gain:.2f} points, more than {settings.max_novel_drop:.2f}"
        )
    verdict = Verdict("rejected", (), gain, scores, live=live)
    return _judge(_routes(gain, p, live), harmed, verdict, settings)


@dataclass(frozen=True)
class Route:
    """One way to be better: a change in points, and how often so large a one comes about by chance."""

    what: str
    change: Change
    p: float

    @property
    def differs(self) -> bool:
        """Whether the two models differ at all in it."""
        return any((self.change.value, self.change.low, self.change.high))

    def shown(self, confidence: float) -> str:
        """For a person."""
        value, low, high = self.change.value, self.change.low, self.change.high
        bounds = f"{confidence:.0%} interval {low:+.2f} to {high:+.2f}"
        return f"gain {value:+.2f} points of {self.what}, {bounds}, p {self.p:.2g}"


def _routes(gain: PairedGain, p: float, live: LiveComparison | None) -> list[Route]:
    novel = _change(gain)
    if live is None:
        return [Route("mIoU", novel, p)]
    routes = []
    if live.known:
        routes += [
            Route("the live model's mIoU", _change(live.known.gain), live.known.p),
            Route("defects that it calls", live.known.called.change, live.known.called.p),
        ]
    if live.new:
        routes.append(
            Route("mIoU on classes that the champion does not know", _change(live.new.gain), live.new.p)
        )
    return [*routes, Route("mIoU on novel classes", novel, p)]


def _change(gain: PairedGain) -> Change:
    return Change(gain.gain, gain.low, gain.high)


def _judge(routes: list[Route], broken: list[str], verdict: Verdict, settings: GateSettings) -> Verdict:
    """``verdict`` with outcome and reasons."""
    shown = [route.shown(settings.confidence) for route in routes]
    asked = sum(route.differs for route in routes)  # the others can't look sure, whatever the level
    level = (1 - settings.confidence) / 2 / max(1, asked)
    above = [route.change.low > settings.min_gain for route in routes]
    sure = [high and route.p <= level for high, route in zip(above, routes, strict=True)]
    if broken:
        return replace(verdict, outcome="rejected", reasons=(*broken, *shown))
    if any(sure):
        tail = f": above {settings.min_gain:+.2f}"
        reasons = [f"{text}{tail if one else ''}" for text, one in zip(shown, sure, strict=True)]
        return replace(verdict, outcome="promoted", reasons=tuple(reasons))
    if any(above):
        tail = f": such a gain comes too often without any difference (p above {level:.2g})"
        reasons = [f"{text}{tail if one else ''}" for text, one in zip(shown, above, strict=True)]
        return replace(verdict, outcome="inconclusive", reasons=tuple(reasons))
    if all(route.change.high <= settings.min_gain for route in routes):
        reasons = [f"{text}: not above {settings.min_gain:+.2f}" for text in shown]
        return replace(verdict, outcome="rejected", reasons=tuple(reasons))
    assert verdict.gain is not None
    needed = episodes_needed(verdict.gain, settings.min_gain)
    tail = f"about {needed} episodes would settle it" if needed else "no number of episodes would settle it"
    reasons = [
        *shown[:-1],
        f"{shown[-1]}: holds {settings.min_gain:+.2f}; {tail} (now {verdict.gain.episodes})",
    ]
    return replace(verdict, outcome="inconclusive", reasons=tuple(reasons), episodes_needed=needed)


def episodes_needed(gain: PairedGain, min_gain: float) -> int | None:
    """Episodes after which an interval of this gain would leave ``min_gain`` out (its width falls as 1/√n).

    None when the gain lies at ``min_gain`` itself.
    """
    distance = abs(gain.gain - min_gain)
    if distance < 1e-9:
        return None
    half = gain.gain - gain.low if gain.gain > min_gain else gain.high - gain.gain
    return max(gain.episodes + 1, math.ceil(gain.episodes * (half / distance) ** 2))


def _finite(counts: pd.DataFrame) -> bool:
    return bool(np.isfinite(counts[COUNTS].to_numpy(float)).all()) and len(counts) > 0


def _broken(counts: pd.DataFrame, settings: GateSettings, guards: Guards) -> list[str]:
    """The guard rails that need no champion."""
    reasons = []
    if not _finite(counts):
        reasons.append("the challenger's counts hold NaN or nothing")
    if not guards.validated:
        reasons.append("the data did not pass validation")
    if not guards.latency_ms <= settings.max_latency_ms:  # NaN fails too
        reasons.append(
            f"an episode takes {guards.latency_ms:.0f} ms, the budget is {settings.max_latency_ms:.0f} ms"
        )
    if not guards.carries_code:
        reasons.append("the version carries no code of its own: `lerenet renew` registers it anew")
    elif not guards.export_agrees:
        reasons.append("the registered model does not give the trained model's masks")
    reasons += guards.doubts
    return reasons


def _harmed(gain: PairedGain, settings: GateSettings) -> list[str]:
    """The guard rails against the champion."""
    reasons = [
        f"class {cls} loses {-change:.1f} points, more than {settings.max_class_drop:.1f}"
        for cls, change in sorted(gain.class_gain.items())
        if change < -settings.max_class_drop
    ]
    for metric in METRICS:
        most, change = settings.max_drop.get(metric.name), gain.others.get(metric.name)
        if most is not None and change is not None and (drop := metric.drop(change.value)) > most:
            reasons.append(f"{metric.title} gets worse by {drop:.2f} points, more than {most:.2f}")
    return reasons


def forced(verdict: Verdict, operator: str, reason: str) -> Verdict:
    """``verdict`` overruled by a person, who and why recorded.

    Raises:
        PromotionError: when the operator or the reason is missing.
    """
    if not operator.strip() or not reason.strip():
        raise PromotionError(
            "forcing a promotion needs an operator and a reason", "give --operator and --reason"
        )
    reasons = (f"forced by {operator}: {reason}", f"the gate said {verdict.outcome}", *verdict.reasons)
    return replace(verdict, outcome="forced", reasons=reasons, operator=operator)
