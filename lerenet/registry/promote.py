"""Promotion and rollback: tags and ledger first, the alias last, every step safe to repeat.

A reader of ``models:/lerenet@champion`` sees the old champion until the last step and the new one
after it. A crash before the last step changes nothing that a reader sees; the same command again
finishes the work and writes no second ledger entry.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from lerenet import layout
from lerenet.errors import PromotionError
from lerenet.evaluation.resampling import same_episodes
from lerenet.files import atomic_path, is_whole, sha256_file, write_digest
from lerenet.params import Params
from lerenet.registry import (
    copies,
    doubts,
    gate,
    ledger,
    live,
    live_gate,
    registered,
    settling,
    telling,
    truth,
)
from lerenet.registry import versions as registry
from lerenet.registry.candidate import episodes_digest, gate_rows
from lerenet.registry.live_gate import LiveComparison
from lerenet.registry.registered import Version
from lerenet.tracking import store

LOCK_SECONDS = 600.0
log = logging.getLogger(__name__)


@contextmanager
def promotion_lock() -> Iterator[None]:
    """Hold the lock that lets one promotion happen at a time; then tell people what was decided.

    Raises:
        PromotionError: when another one holds it for ten minutes.
        TrackingError: the current folder is no project's.
    """
    store.require_project()
    layout.CHECKPOINTS.mkdir(exist_ok=True)
    lock = FileLock(layout.CHECKPOINTS / "promotion.lock", timeout=LOCK_SECONDS, is_singleton=True)
    try:
        lock.acquire()
    except Timeout as error:
        raise PromotionError(
            "another promotion is under way", "wait for it, then repeat the command"
        ) from error
    try:
        yield
    finally:
        lock.release()
    try:
        telling.tell()
    except Exception as error:  # what was decided is done; the watcher tells it
        log.warning("not told yet: %s", error)


def promote(
    version: str,
    params: Params,
    *,
    operator: str = "",
    reason: str = "",
    force: bool = False,
    before_alias: Callable[[str, gate.Verdict], None] = lambda version, verdict: None,
) -> gate.Verdict:
    """Judge ``version`` against the champion and make it champion when the gate, or force, says so.

    Args:
        version: Number of the challenger.
        params: The settings; ``gate`` holds the margins.
        operator: Who asks.
        reason: Why; needed with ``force``.
        force: Promote whatever the gate says; operator and reason are recorded.
        before_alias: Called with version and verdict once both are recorded, before the alias moves.

    Raises:
        PromotionError: different episodes, force without operator and reason, or a rollback that was interrupted
            can't be finished.
        TrackingError: no such version, or the store can't be used.
    """
    with promotion_lock():
        challenger = registry.by_number(version)
        number = challenger.number
        champion = settling.settle(
            lambda change: bool(change["version"] == number), operator=operator, force=force
        )
        if champion is not None and champion.number == number:
            return gate.Verdict("promoted", (f"version {number} is the champion already",))
        if champion is None and not force:
            _require_none_before(ledger.last_change())
        verdict = judge(challenger, champion, params, force=force)
        if force:
            verdict = gate.forced(verdict, operator, reason)
        left = {} if verdict.promotes else truth.interrupted(champion)
        if left and left["previous"]:  # promoted and interrupted before; judged otherwise now
            settling.undo(left, operator, settling.WHY)
        change = record(challenger, champion, verdict, operator=operator, reason=reason)
        before_alias(number, verdict)
        if verdict.promotes:
            settling.carry_out(change)  # last
        return verdict


def _require_none_before(last: dict[str, Any]) -> None:
    """Without a champion the next model goes live unjudged: only where the ledger, too, knows of none.

    A first promotion that was interrupted before its alias moved counts as none.
    """
    if last and not truth.interrupted(None):
        raise PromotionError(
            f"the registry has no champion, but the ledger says that version {last['version']} is it",
            f"see that {store.VARIABLE} names the right store and that nobody removed the alias; "
            "`lerenet promote VERSION --force` begins anew",
        )


def settled(version: Version) -> bool:
    """Whether the decision on a version was carried out whole: verdict, ledger and, if promoted, the alias."""
    if registered.CHAMPION in version.aliases:
        return True  # the alias moves last
    if version.tags.get("verdict", "candidate") == "candidate":
        return False  # what the ledger says of this number is of another store
    entries = ledger.read()
    own = [place for place, entry in enumerate(entries) if entry.get("version") == version.number]
    if not own or entries[own[-1]]["event"] == "decide":
        return bool(own)
    later = entries[own[-1] + 1 :]
    return any(entry["event"] in ledger.CHANGES for entry in later)  # promoted, and then no longer champion


def judge(
    challenger: Version, champion: Version | None, params: Params, *, force: bool = False
) -> gate.Verdict:
    """The gate's verdict; with ``force``, a comparison that can't be made is a reason and not an error."""
    folder = registry.resolve(challenger.number)
    try:
        comparison, found = _live(folder, challenger, champion, params)
        counts = pd.read_parquet(folder / "counts.parquet")
        before = None if champion is None else champion_counts(champion, challenger, counts, params)
    except Exception as error:
        if not force or store.is_locked(error):
            raise
        return gate.Verdict("rejected", (f"no comparison was possible: {error}",))
    guards = gate.Guards(
        validated=challenger.tags.get("validated") == "true",
        latency_ms=float(challenger.tags.get("latency_ms", "nan")),
        export_agrees=_agrees(folder, challenger),
        carries_code=copies.carries_code(challenger),
        doubts=found,
    )
    return gate.decide(before, counts, params.gate, guards, params.seed, comparison)


def _live(
    folder: Path, challenger: Version, champion: Version | None, params: Params
) -> tuple[LiveComparison | None, tuple[str, ...]]:
    """The live models' comparison, and what new masks the champion doubts."""
    if champion is None:
        return None, ()
    package = registry.resolve(champion.number)
    rows = live.champion_rows(package, folder, params)
    allowed = params.enrolment.false_calls
    comparison = live_gate.compare(rows, live.challenger_rows(folder), params.gate, allowed, params.seed)
    came = doubts.batches(package, _before(champion, challenger), folder)
    return comparison, tuple(doubts.doubted(rows, came, doubts.fit_of(package, params)))


def _before(champion: Version, challenger: Version) -> list[Path]:
    """Packages of the versions between the two, oldest first."""
    numbers = range(int(champion.number) + 1, int(challenger.number))
    between = [version for version in reversed(registry.versions()) if int(version.number) in numbers]
    return [copies.local(version) / registered.PACKAGE for version in between]


def champion_counts(
    champion: Version, challenger: Version, counts: pd.DataFrame, params: Params
) -> pd.DataFrame:
    """Counts of the champion on the challenger's episodes.

    It is scored again when its own are of other episodes than ``counts``, or were made by other code.
    """
    folder, digest = registry.resolve(champion.number), challenger.tags["episodes_digest"]
    code = challenger.tags.get("evaluation_code", "")
    if (champion.tags.get("episodes_digest"), champion.tags.get("evaluation_code", "")) == (digest, code):
        own = pd.read_parquet(folder / "counts.parquet")
        if same_episodes(own, counts):
            return own
    weights = champion.tags["weights_sha256"][:12]  # numbers begin anew in another store
    kept = layout.CACHE / "champion" / f"{champion.number}-{weights}-{digest}-{code[:12]}.parquet"
    if not is_whole(kept):
        now = episodes_digest()
        if now != digest:
            raise PromotionError(
                f"version {challenger.number} was scored on episodes {digest}, the folds on disk are {now}",
                "run the retraining again, so that both can be scored on the same episodes",
            )
        from lerenet.evaluation.protocol import score_version

        again = score_version(folder, layout.FOLDS / "episodes.parquet", layout.CATALOG, layout.DATA, params)
        with atomic_path(kept) as temporary:
            again.to_parquet(temporary, index=False)
        write_digest(kept)
    os.utime(kept)  # when it was used last
    return gate_rows(pd.read_parquet(kept), params.ship.shots)


def _agrees(folder: Path, version: Version) -> bool:
    """Whether the model as MLflow serves it gives the trained network's masks on the version's input example.

    Where other weights stand in the project by now, the registered ones are compared.
    """
    from lerenet.models.serialization import load_network
    from lerenet.registry import served

    trained = layout.TRAIN / version.tags.get("cell", "") / "model"
    weights = trained / layout.WEIGHTS
    same = weights.is_file() and sha256_file(weights) == version.tags.get("weights_sha256")
    return served.agrees(folder.parents[1], load_network(trained if same else folder))


def record(
    challenger: Version, champion: Version | None, verdict: gate.Verdict, *, operator: str, reason: str
) -> dict[str, Any]:
    """Write the verdict to the version's tags, ledger and card; return the ledger's entry.

    Repeating it changes nothing. The predecessor's tag follows the ledger, whose entry says what it was before: an
    interrupted promotion that is undone leaves the version with the predecessor that it had.
    """
    previous = "" if champion is None else champion.number
    registry.set_tags(challenger.number, _tags(verdict))
    entry = {
        "event": "promote" if verdict.promotes else "decide",
        "version": challenger.number,
        "previous": previous,
        "outcome": verdict.outcome,
        "operator": operator,
        "reason": reason or verdict.reasons[0],
        "verdict": verdict.as_dict(),
        "lock": challenger.tags.get("lock", ""),
    }
    if verdict.promotes:
        entry["predecessor"] = challenger.tags.get("previous_champion", "")
    written = truth.write(entry, identity_of(entry))
    if verdict.promotes:
        registry.set_tags(challenger.number, {"previous_champion": previous})
    registry.describe(challenger.number, f"{verdict.outcome}: {'; '.join(verdict.reasons)}")
    return written


def _tags(verdict: gate.Verdict) -> dict[str, str]:
    tags = {"verdict": verdict.outcome, "verdict_reasons": "; ".join(verdict.reasons)[:4000]}
    if verdict.gain is not None:
        gain = verdict.gain
        tags |= {"gain": f"{gain.gain:.4f}", "gain_low": f"{gain.low:.4f}", "gain_high": f"{gain.high:.4f}"}
    if verdict.episodes_needed is not None:
        tags["episodes_needed"] = str(verdict.episodes_needed)
    return tags


def identity_of(entry: dict[str, Any]) -> str:
    """One id for one change; the last change in the ledger is part of it, so A-B-A is three entries."""
    last = ledger.last_change()
    if all(last.get(name) == entry[name] for name in ("event", "version", "previous", "outcome")):
        return str(last.get("id"))  # the same change, interrupted before its alias moved
    return hashlib.sha256(json.dumps([last.get("id"), entry]).encode()).hexdigest()[:16]


def _made_champion(current: Version) -> dict[str, Any]:
    """The ledger's newest change that made this version champion; one of another store (another lock) is none."""
    own = [
        entry
        for entry in ledger.read()
        if entry["event"] in ledger.CHANGES
        and entry["version"] == current.number
        and entry.get("outcome") != settling.UNDONE  # it was champion before, and stayed it
    ]
    if own and own[-1].get("lock") == current.tags.get("lock", ""):
        return own[-1]
    return {"event": ""}


@dataclass(frozen=True)
class Rollback:
    """From which version to which, and whether that one can be served without the project.

    ``again``: it was done before, and this call changed nothing.
    """

    before: str
    after: str
    again: bool = False
    carries_code: bool = True


def rollback(*, operator: str = "", reason: str = "", leave: str = "") -> Rollback:
    """Make the champion's predecessor champion again.

    Right after a rollback nothing changes, so that a repeated call, or a colleague's, does not go back twice. Where a
    promotion was interrupted before the alias moved, that is what is taken back: the champion stays. A rollback that
    was interrupted is finished.

    Args:
        operator: Who asks.
        reason: Why.
        leave: The champion to go back from; given, a second step back is one, too.

    Raises:
        PromotionError: no champion, another one than ``leave``, no predecessor recorded, or the predecessor is
            gone or damaged.
    """
    with promotion_lock():
        current = registry.champion()
        if current is None:
            raise PromotionError("there is no champion to roll back from", "promote a version first")
        change = truth.interrupted(current)
        if change and change["event"] != "rollback" and leave in ("", change["version"]):
            settling.undo(change, operator, reason, "rollback")
            return Rollback(change["version"], current.number)
        before, current = current, settling.settle(operator=operator) or current
        if before.number != current.number and leave in ("", before.number):
            return Rollback(before.number, current.number, carries_code=copies.carries_code(current))
        made = _made_champion(current)
        if made["event"] == "rollback" and leave in ("", made["previous"]):
            return Rollback(made["previous"], current.number, again=True)
        if leave not in ("", current.number):
            raise PromotionError(
                f"version {leave} is not the champion, version {current.number} is", "see `lerenet ledger`"
            )
        target = current.tags.get("previous_champion", "")
        if not target:
            raise PromotionError(f"version {current.number} has no predecessor", "see `lerenet models`")
        if made["event"] == "rollback" and made["previous"] == target:
            raise PromotionError(
                f"the predecessor of version {current.number} is version {target}, which was just left",
                "promote another version: `lerenet promote VERSION --force`",
            )
        predecessor = settling.predecessor(target, current.number)
        entry = {
            "event": "rollback", "version": target, "previous": current.number, "outcome": "rollback",
            "operator": operator, "reason": reason, "lock": predecessor.tags.get("lock", ""),
        }  # fmt: skip
        settling.carry_out(truth.write(entry, identity_of(entry)))  # the alias last
        return Rollback(current.number, target, carries_code=copies.carries_code(predecessor))
