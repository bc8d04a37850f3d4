"""Promotion and rollback: tags and ledger first, the alias last, every step safe to repeat.

A reader of ``models:/lerenet@champion`` sees the old champion until the last step and the new one
after it. A crash before the last step changes nothing that a reader sees; the same command again
finishes the work and writes no second ledger entry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from lerenet import layout
from lerenet.bootstrap import same_episodes
from lerenet.errors import PromotionError, TrackingError
from lerenet.params import Params
from lerenet.promotion import gate, ledger
from lerenet.tracking import registry, store
from lerenet.tracking.candidate import gate_rows
from lerenet.tracking.registry import Version

LOCK_SECONDS = 600.0
AGREE = 1e-3  # largest difference of a logit between the trained and the registered model


@contextmanager
def promotion_lock() -> Iterator[None]:
    """Hold the lock that lets one promotion happen at a time.

    Raises:
        PromotionError: when another one holds it for ten minutes.
    """
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
        PromotionError: different episodes, or force without operator and reason.
        TrackingError: no such version, or the store can't be used.
    """
    with promotion_lock():
        challenger, champion = registry.get(version), registry.champion()
        number = challenger.number
        if champion is not None and champion.number == number:
            return gate.Verdict("promoted", (f"version {number} is the champion already",))
        if champion is None and not force:
            _require_none_before(ledger.last_change())
        verdict = judge(challenger, champion, params, force=force)
        if force:
            verdict = gate.forced(verdict, operator, reason)
        record(challenger, champion, verdict, operator=operator, reason=reason)
        before_alias(number, verdict)
        if verdict.promotes:
            registry.set_champion(number)  # last
        return verdict


def _require_none_before(last: dict[str, Any]) -> None:
    """Without a champion the next model goes live unjudged: only where the ledger, too, knows of none.

    A first promotion that was interrupted before its alias moved counts as none.
    """
    if not last:
        return
    same = [found for found in registry.versions() if found.number == last["version"]]
    interrupted = not last["previous"] and same and same[0].tags.get("lock") == last.get("lock")
    if not interrupted:
        raise PromotionError(
            f"the registry has no champion, but the ledger says that version {last['version']} is it",
            f"see that {store.VARIABLE} names the right store and that nobody removed the alias; "
            "`lerenet promote VERSION --force` begins anew",
        )


def settled(version: Version) -> bool:
    """Whether the decision on a version was carried out whole: verdict, ledger and, if promoted, the alias."""
    if version.tags.get("verdict", "candidate") == "candidate":
        return False
    if not any(entry.get("version") == version.number for entry in ledger.read()):
        return False
    last = ledger.last_change()
    if last.get("version") != version.number:
        return True
    champion = registry.champion()
    return champion is not None and champion.number == version.number


def judge(
    challenger: Version, champion: Version | None, params: Params, *, force: bool = False
) -> gate.Verdict:
    """The gate's verdict; with ``force``, a comparison that can't be made is a reason and not an error."""
    folder = registry.resolve(challenger.number)
    guards = gate.Guards(
        validated=challenger.tags.get("validated") == "true",
        latency_ms=float(challenger.tags.get("latency_ms", "nan")),
        export_agrees=_agrees(folder, challenger),
        champion_digest=challenger.tags.get("episodes_digest", ""),
        challenger_digest=challenger.tags.get("episodes_digest", ""),
    )
    try:
        counts = pd.read_parquet(folder / "counts.parquet")
        before = None if champion is None else champion_counts(champion, challenger, counts, params)
        return gate.decide(before, counts, params.gate, guards, params.seed)
    except Exception as error:
        if not force:
            raise
        return gate.Verdict("rejected", (f"no comparison was possible: {error}",))


def champion_counts(
    champion: Version, challenger: Version, counts: pd.DataFrame, params: Params
) -> pd.DataFrame:
    """Counts of the champion on the challenger's episodes; scored again when its own are not those of ``counts``."""
    folder, digest = registry.resolve(champion.number), challenger.tags["episodes_digest"]
    if champion.tags.get("episodes_digest") == digest:
        own = pd.read_parquet(folder / "counts.parquet")
        if same_episodes(own, counts):
            return own
    kept = layout.CACHE / "champion" / f"{champion.number}-{digest}.parquet"
    if not kept.exists():
        now = _current_digest()
        if now != digest:
            raise PromotionError(
                f"version {challenger.number} was scored on episodes {digest}, the folds on disk are {now}",
                "run the retraining again, so that both can be scored on the same episodes",
            )
        from lerenet.evaluate import score_version
        from lerenet.files import atomic_path

        again = score_version(folder, layout.FOLDS / "episodes.parquet", layout.CATALOG, layout.DATA, params)
        with atomic_path(kept) as temporary:
            again.to_parquet(temporary, index=False)
    return gate_rows(pd.read_parquet(kept), params.ship.shots)


def _current_digest() -> str:
    from lerenet.files import read_json

    return str(read_json(layout.FOLDS / "folds.json")["digest"])


def _agrees(folder: Path, version: Version) -> bool:
    """Whether the registered network gives the trained network's logits on a fixed made-up episode."""
    trained = layout.TRAIN / version.tags.get("cell", "") / "model"
    if not (trained / "weights.safetensors").is_file():
        return True  # trained elsewhere; `registry.resolve` has checked the digests
    from lerenet.files import sha256_file

    if sha256_file(trained / "weights.safetensors") != version.tags.get("weights_sha256"):
        return True  # another training stands there now; nothing to compare with
    return bool(np.abs(_logits(folder) - _logits(trained)).max() <= AGREE)


def _logits(folder: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    import torch

    from lerenet.loading import load_network

    loaded = load_network(folder)
    size = loaded.image_size
    maker = torch.Generator().manual_seed(0)
    images = torch.rand(1, 1, 3, size, size, generator=maker)
    masks = (torch.rand(1, 1, size, size, generator=maker) > 0.5).float()
    with torch.inference_mode():
        logits = loaded.network(images, masks, torch.rand(1, 3, size, size, generator=maker))
    found: np.ndarray[Any, np.dtype[np.float64]] = logits.double().cpu().numpy()
    return found


def record(
    challenger: Version, champion: Version | None, verdict: gate.Verdict, *, operator: str, reason: str
) -> None:
    """Write the verdict to the version's tags, ledger and card; repeating it changes nothing."""
    previous = "" if champion is None else champion.number
    registry.set_tags(challenger.number, _tags(verdict, previous))
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
    ledger.append({"id": _identity(entry), **entry})
    registry.describe(challenger.number, f"{verdict.outcome}: {'; '.join(verdict.reasons)}")


def _tags(verdict: gate.Verdict, previous: str) -> dict[str, str]:
    tags = {"verdict": verdict.outcome, "verdict_reasons": "; ".join(verdict.reasons)[:4000]}
    if verdict.gain is not None:
        gain = verdict.gain
        tags |= {"gain": f"{gain.gain:.4f}", "gain_low": f"{gain.low:.4f}", "gain_high": f"{gain.high:.4f}"}
    if verdict.episodes_needed is not None:
        tags["episodes_needed"] = str(verdict.episodes_needed)
    return {**tags, "previous_champion": previous} if verdict.promotes else tags


def _identity(entry: dict[str, Any]) -> str:
    """One id for one change; the last change in the ledger is part of it, so A-B-A is three entries."""
    last = ledger.last_change()
    if all(last.get(name) == entry[name] for name in ("event", "version", "previous")):
        return str(last.get("id"))  # the same change, interrupted before its alias moved
    seen = [str(last.get("id")), entry["event"], entry["version"], entry["previous"], entry["outcome"]]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]


def rollback(*, operator: str = "", reason: str = "") -> tuple[str, str]:
    """Make the champion's predecessor champion again; return (from, to).

    Raises:
        PromotionError: no champion, no predecessor recorded, or the predecessor is gone or damaged.
    """
    with promotion_lock():
        current = registry.champion()
        if current is None:
            raise PromotionError("there is no champion to roll back from", "promote a version first")
        target = current.tags.get("previous_champion", "")
        if not target:
            raise PromotionError(f"version {current.number} has no predecessor", "see `lerenet models`")
        try:
            registry.resolve(target)
        except TrackingError as error:
            raise PromotionError(
                f"version {target}, the predecessor of {current.number}, can't be used: {error.what}",
                "promote another version: `lerenet promote VERSION --force`",
            ) from error
        entry = {
            "event": "rollback", "version": target, "previous": current.number, "outcome": "rollback",
            "operator": operator, "reason": reason,
        }  # fmt: skip
        ledger.append({"id": _identity(entry), **entry})
        registry.set_champion(target)  # last
        return current.number, target
