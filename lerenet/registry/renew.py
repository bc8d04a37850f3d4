"""A version that carries no code of its own, made anew with the code of now: the same weights, served again."""

from __future__ import annotations

from typing import Any

from lerenet.errors import PromotionError
from lerenet.params import Params
from lerenet.registry import copies, served, settling, truth, versions
from lerenet.registry.promote import identity_of, promotion_lock
from lerenet.registry.registered import CHAMPION
from lerenet.registry.registering import register_again

DECIDED = (
    "lock",
    "verdict",
    "verdict_reasons",
    "previous_champion",
)  # tags that the new version gets once it answers


def renew(model: str, params: Params, *, operator: str = "", reason: str = "") -> str:
    """Register a version anew and, if it is the champion, make the new one champion; return its number.

    Nothing is judged: weights, settings and counts are the same. The alias moves only once the new version has
    answered with the mask of its network. Repeated, it changes nothing.

    Args:
        model: a number, or ``champion``.
        operator: Who asks.
        reason: Why.

    Raises:
        TrackingError: no such version, or its files are not those that were registered.
        PromotionError: it carries its own code already, or the new version answers with another mask.
    """
    from lerenet.models.serialization import load_network

    def same(change: dict[str, Any]) -> bool:
        return change["event"] == "renew" and model in (CHAMPION, change["previous"])

    with promotion_lock():
        settling.settle(same, operator=operator)
        old = versions.find(model)
        package = copies.verified(old)
        if copies.carries_code(old):
            raise PromotionError(
                f"version {old.number} carries its own code already", "there is nothing to renew"
            )
        number = register_again(old, package, params, DECIDED)
        new = versions.by_number(number)
        if not served.agrees(copies.local(new), load_network(package)):
            raise PromotionError(
                f"version {number}, made of version {old.number}, does not give its masks; the champion stays",
                "retrain, so that a model of today's code can be promoted",
            )
        lock = old.tags.get("lock", "")
        versions.set_tags(number, {name: old.tags[name] for name in DECIDED if name in old.tags})
        versions.describe(
            number, f"{old.tags.get('verdict', 'candidate')}: version {old.number}, registered anew"
        )
        for other in versions.versions():
            if other.tags.get("previous_champion") == old.number:
                versions.set_tags(other.number, {"previous_champion": number})
        current = versions.champion()
        live = current is not None and current.number == old.number
        entry = {
            "event": "renew" if live else "decide", "version": number, "previous": old.number, "outcome": "renewed",
            "operator": operator, "reason": reason or "a version that carries its own code", "lock": lock,
        }  # fmt: skip
        change = truth.write(entry, identity_of(entry))
        if live:
            settling.carry_out(change)  # last
        return number
