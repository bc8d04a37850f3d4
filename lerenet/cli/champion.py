"""``lerenet doctor`` on the champion: alias and ledger agree, its files are those registered, its runs are there."""

from __future__ import annotations

import sqlite3
from typing import Any, Literal

from lerenet.errors import LerenetError
from lerenet.registry import copies, ledger, truth
from lerenet.registry.offline import Registry
from lerenet.registry.registered import Version
from lerenet.tracking.store import LOCKED, sqlite_path, tracking_uri

Mark = Literal["ok", "warning", "problem"]
NONE_YET = "`dvc repro`, then the retraining or `lerenet promote`; until then --model matching"
FORCE = "`lerenet promote VERSION --force --reason WHY`"
RESTORE = "restore the run on MLflow's page: `mlflow gc` would delete the champion's files with it"
RUNS = {"registration": "", "training": "training_run", "pretraining": "pretraining_run"}


def examined(uri: str | None = None) -> tuple[Mark, str, str]:
    """State (``ok``, ``warning`` or ``problem``), what was found, and the remedy; in the store at ``uri``, or ours."""
    path = sqlite_path(uri or tracking_uri())
    if path is None:
        return "ok", "in a server's registry: see `lerenet models`", ""
    registry = Registry(path)
    try:
        alias = registry.champion()
        champion = registry.version(alias) if alias else None
        tags = registry.tags()
        last = ledger.last_change()
        truth.require_head(tags.get(truth.head_tag(), ""))
        if change := truth.unfinished(last, alias, tags.get(truth.live_tag(), ""), registry.lock_of):
            return "problem", *truth.shown(change)
        if champion is None:
            return _without(last, alias, registry)
        copies.verified(champion)
        gone = _gone(champion, registry)
    except LerenetError as error:
        return "problem", error.what, error.remedy
    except sqlite3.OperationalError as error:
        return "problem", f"{path}: {error}", LOCKED
    if gone:
        return "warning", f"version {champion.number}; {gone}", RESTORE
    elsewhere = "" if ledger.read() else "; decided elsewhere: this checkout's ledger is empty"
    return "ok", f"version {champion.number}, its files as registered{elsewhere}", ""


def _without(last: dict[str, Any], alias: str, registry: Registry) -> tuple[Mark, str, str]:
    if alias:
        return "problem", f"the alias names version {alias}, which was deleted", FORCE
    if last and registry.tags():
        there = registry.version(last["version"]) is not None
        said = f"none, though the ledger says that version {last['version']} is it"
        how = "its alias was removed" if there else "the version was deleted"
        return "problem", f"{said}: {how}", FORCE.replace("VERSION", last["version"]) if there else FORCE
    return "warning", "none yet", NONE_YET


def _gone(champion: Version, registry: Registry) -> str:
    """Runs behind the champion that were deleted, in words."""
    runs = {what: champion.tags.get(tag, "") if tag else champion.run_id for what, tag in RUNS.items()}
    deleted = [what for what, run in runs.items() if run and registry.stage(run) == "deleted"]
    return f"in MLflow's bin: its {' and '.join(deleted)} run" if deleted else ""
