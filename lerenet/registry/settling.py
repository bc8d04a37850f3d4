"""What was interrupted between ledger and alias: a rollback is finished, for a person asked for it; else undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lerenet.errors import PromotionError, TrackingError
from lerenet.registry import copies, ledger, truth
from lerenet.registry import versions as registry
from lerenet.registry.registered import Version

UNDO = "undo "  # begins the id of an entry that takes a change back, before that change's id
UNDONE = "undone"  # outcome of an entry that takes back what nobody asked to be taken back
WHY = "interrupted before it went live"


def carry_out(change: dict[str, Any]) -> None:
    """Move the alias to the version of a change that stands in the ledger, and note that this was done."""
    registry.set_champion(change["version"])
    registry.set_model_tag(truth.live_tag(), change["id"])


def settle(
    own: Callable[[dict[str, Any]], bool] = lambda change: False, *, operator: str = "", force: bool = False
) -> Version | None:
    """Finish an interrupted rollback, undo what else was interrupted; return the champion as it is then.

    A first promotion that was interrupted has nothing to go back to and stays as it is.

    Args:
        own: whether a change is the one that is asked for now, which goes on.
        operator: Who asks.
        force: Undo a rollback that can't be finished.

    Raises:
        PromotionError: the version that a rollback goes back to is gone or damaged.
    """
    champion = registry.champion()
    _note(champion)
    change = truth.interrupted(champion)
    if not change:
        return champion
    if change["event"] == "rollback":
        try:
            return finish(change)
        except PromotionError as error:
            if not force:
                raise
            undo(change, operator, str(error))
    elif change["previous"] and not own(change):
        undo(change, operator, WHY)
    return champion


def _note(champion: Version | None) -> None:
    """Note that the last change went live where a crash came between alias and note."""
    last = ledger.last_change()
    done = champion is not None and last.get("version") == champion.number and "id" in last
    if done and registry.model_tag(truth.live_tag()) != last["id"]:
        registry.set_model_tag(truth.live_tag(), last["id"])


def finish(change: dict[str, Any]) -> Version:
    """Carry out an interrupted rollback; return the version that is champion then.

    Raises:
        PromotionError: that version is gone or damaged.
    """
    version = predecessor(change["version"], change["previous"])
    carry_out(change)
    return version


def undo(change: dict[str, Any], operator: str, reason: str, outcome: str = UNDONE) -> None:
    """Write that an interrupted change was taken back: the alias never moved."""
    if "predecessor" in change:
        registry.set_tags(change["version"], {"previous_champion": change["predecessor"]})
    before = registry.by_number(change["previous"])
    entry = {
        "event": "rollback", "version": before.number, "previous": change["version"], "outcome": outcome,
        "operator": operator, "reason": reason or WHY, "lock": before.tags.get("lock", ""),
    }  # fmt: skip
    truth.write(entry, f"{UNDO}{change.get('id')}")


def predecessor(number: str, left: str) -> Version:
    """The version to go back to from ``left``, its files checked.

    Raises:
        PromotionError: it is gone or damaged.
    """
    try:
        version = registry.by_number(number)
        copies.verified(version)
    except TrackingError as error:
        raise PromotionError(
            f"version {number}, the predecessor of {left}, can't be used: {error.what}",
            "promote another version: `lerenet promote VERSION --force --reason WHY`",
        ) from error
    return version
