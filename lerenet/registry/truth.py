"""One truth about the champion: the ledger says who is meant to be it, the alias who is served, and the two compared.

A change writes the ledger and then moves the alias. A crash between the two leaves the old champion in service and a
ledger that names the new one: an interrupted change, which is finished or undone before anything else is decided
(`lerenet.registry.settling`).

Several checkouts may use one registry, each with a ledger of its own: what the registry notes of a ledger stands under
that ledger's id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lerenet import layout
from lerenet.errors import PromotionError
from lerenet.registry import ledger
from lerenet.registry import versions as registry
from lerenet.registry.registered import Version

LEDGER = "ledger."  # begins the tag of each checkout's ledger


def head_tag() -> str:
    """Tag of the registered model: digest of this ledger as it was after the last decision."""
    return f"{LEDGER}{ledger.identity()}"


def live_tag() -> str:
    """Tag of the registered model: id of this ledger's change whose version went live last."""
    return f"live.{ledger.identity()}"


def interrupted(champion: Version | None) -> dict[str, Any]:
    """The ledger's last change, if the alias still names what that one meant to replace; empty otherwise."""

    def lock_of(number: str) -> str | None:
        found = [version for version in registry.versions() if version.number == number]
        return found[0].tags.get("lock", "") if found else None

    alias = "" if champion is None else champion.number
    return unfinished(ledger.last_change(), alias, registry.model_tag(live_tag()), lock_of)


def unfinished(
    last: dict[str, Any], alias: str, live: str, lock_of: Callable[[str], str | None]
) -> dict[str, Any]:
    """``last``, if it was to move the alias from where that stands; empty otherwise.

    Args:
        last: the ledger's last change; one of another store (its version is not here, or is of another ``dvc.lock``)
            counts as none.
        alias: number of the version that is served; empty without one.
        live: id of the change that was carried out last (`live_tag`): where the last change got so far, it was
            somebody else who moved the alias since.
        lock_of: hash of the ``dvc.lock`` of a version; None where there is no such version.
    """
    if not last or alias != last["previous"] or alias == last["version"] or last.get("id") == live:
        return {}
    return last if lock_of(last["version"]) == last.get("lock", "") else {}


def shown(change: dict[str, Any]) -> tuple[str, str]:
    """An interrupted change, and what to do about it."""
    event, before, after = change["event"], change["previous"], change["version"]
    forced = " --force --reason WHY" if change.get("outcome") == "forced" else ""
    finish = {"rollback": "rollback", "renew": f"renew {before}"}.get(event, f"promote {after}{forced}")
    return (
        f"a change of the champion was interrupted: {event}, {before or 'none'} -> {after}, {change['time']}",
        f"`lerenet {finish}` finishes it"
        + (", as the next promotion does" if event == "rollback" else "; `lerenet rollback` undoes it"),
    )


def write(entry: dict[str, Any], identity: str) -> dict[str, Any]:
    """Add an entry to the ledger, note at the registry how long the ledger is now; return the entry as written.

    Raises:
        PromotionError: the ledger was changed, or lacks what stood there at the last decision.
    """
    require_whole()
    written = ledger.append({"id": identity, **entry})
    registry.set_model_tag(head_tag(), ledger.head())
    return written


def seal(operator: str, reason: str) -> bool:
    """Go on with a ledger that was changed, as it is, said in a line of its own; False where it is whole.

    Raises:
        PromotionError: without a reason.
    """
    try:
        require_whole()
    except PromotionError:
        live = registry.model_tag(live_tag())
        ledger.seal(operator, reason)
        registry.set_model_tag(head_tag(), ledger.head())
        registry.set_model_tag(live_tag(), live)
        return True
    return False


def require_whole() -> None:
    """Refuse a ledger that was changed or whose end was cut off; one that has no line yet is whole.

    Raises:
        PromotionError: it was changed, or lacks what stood there at the last decision.
    """
    if ledger.read():
        require_head(registry.model_tag(head_tag()))


def require_head(known: str) -> None:
    """Refuse a ledger that was never as long as the registry says (``known``; empty: it says nothing).

    Raises:
        PromotionError: lines that stood at its end are gone, or it is a copy and the original went on.
    """
    if known and known not in ledger.heads():
        raise PromotionError(
            f"{layout.LEDGER}: lines that stood at its end are gone, or it is a copy of another checkout's, "
            "which went on",
            ledger.GO_ON,
        )
