"""What of MLflow is kept, and what goes: old versions with their files, and runs that nobody asks for any more.

Kept are the champion, its predecessor, the one that was left last, every version with an alias or without a verdict,
and the newest few; of the runs those that a kept version came from, that an output of the pipeline names, and that are
younger than some days.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerenet import layout
from lerenet.errors import TrackingError
from lerenet.files import read_json
from lerenet.registry import ledger, truth
from lerenet.registry import versions as registry
from lerenet.registry.caches import DAY
from lerenet.registry.promote import promotion_lock
from lerenet.registry.registered import CHAMPION, NAME, Version
from lerenet.tracking import store
from lerenet.tracking.moved import ARTIFACTS, local

PARENT = "mlflow.parentRunId"  # tag of a stage's run: the retraining's
SOURCES = ("training_run", "pretraining_run")  # tags of a version: runs that it came from


@dataclass(frozen=True)
class Old:
    """What goes.

    Attributes:
        versions: registered versions.
        models: ids of their files in MLflow, and of files whose version is gone already.
        runs: ids of runs, those that registered the versions among them.
        files: folders of the models on this machine.
        artifacts: folders of the runs.
        kept_data: hashes of the data that the versions were learnt from which stay.
    """

    versions: tuple[Version, ...]
    models: tuple[str, ...]
    runs: tuple[str, ...]
    files: tuple[Path, ...]
    artifacts: tuple[Path, ...]
    kept_data: tuple[str, ...]


def kept_versions(all_: Sequence[Version], newest: int) -> set[str]:
    """Numbers of the versions that stay.

    Args:
        all_: every version, newest first.
        newest: how many of these stay whatever they are.
    """
    kept = {version.number for version in all_[:newest]}
    for version in all_:
        if version.aliases or version.tags.get("verdict", "candidate") == "candidate":
            kept.add(version.number)
        if CHAMPION in version.aliases:
            kept.add(version.tags.get("previous_champion", ""))
    return kept & {version.number for version in all_}


@store.scrubbing()
def plan(experiment: str, newest: int, days: float) -> Old:
    """What would go.

    Args:
        experiment: the project's, in MLflow; other people's runs are left alone.
        newest: versions that stay whatever they are, the newest.
        days: age up to which a run stays, or the files of a registration that came to nothing.

    Raises:
        TrackingError: the registry can't be used, other checkouts use it too, or files lie outside of the project.
    """
    _require_alone()
    all_, oldest = registry.versions(), 1000 * (time.time() - days * DAY)
    change = ledger.last_change()
    kept = kept_versions(all_, newest) | {change.get("version", ""), change.get("previous", "")}
    stay = [version for version in all_ if version.number in kept]
    gone = [version for version in all_ if version.number not in kept]
    needed = {version.tags.get(name, "") for version in stay for name in SOURCES}
    needed |= {version.run_id for version in stay} | _named()
    own, all_runs = {version.run_id for version in gone}, list(_runs(experiment))
    needed |= {run.data.tags.get(PARENT, "") for run in all_runs if run.info.run_id in needed}
    runs = [
        run
        for run in all_runs
        if run.info.run_id not in needed and (run.info.run_id in own or _old(run, oldest))
    ]
    kept_files, old_files = ({version.source for version in part} for part in (stay, gone))
    models = [
        model
        for model in _models(experiment)
        if model.artifact_location not in kept_files
        and (model.artifact_location in old_files or model.creation_timestamp < oldest)
    ]  # fmt: skip
    return Old(
        tuple(gone), tuple(model.model_id for model in models), tuple(run.info.run_id for run in runs),
        _folders(model.artifact_location for model in models), _folders(run.info.artifact_uri for run in runs),
        tuple(sorted({version.tags.get("data_md5", "") for version in stay} - {""})),
    )  # fmt: skip


def _old(run: Any, oldest: float) -> bool:
    """Whether it ended before ``oldest`` (milliseconds since 1970), in the bin or not."""
    ended = run.info.end_time or run.info.start_time
    return bool(run.info.status != "RUNNING" and ended < oldest)


def _named() -> set[str]:
    """Runs that the pipeline's outputs name: what is registered next comes from them."""
    return {str(read_json(path).get("mlflow_run_id") or "") for path in layout.ARTIFACTS.rglob("run.json")}


def _require_alone() -> None:
    """Refuse where several ledgers stand at the registry: what another checkout needs is not known here."""
    ledgers = [name for name in registry.model_tags() if name.startswith(truth.LEDGER)]
    if len(ledgers) > 1:
        raise TrackingError(
            f"{len(ledgers)} checkouts keep a ledger of this registry: what the others need is not known here",
            f"if they are gone, remove from the registered model the tags {truth.LEDGER}… but {truth.head_tag()}",
        )


def _runs(experiment: str) -> Iterator[Any]:
    """Every run of the experiment, those in the bin as well."""
    from mlflow.entities import ViewType

    yield from _pages(experiment, "search_runs", filter_string="", run_view_type=ViewType.ALL)


def _models(experiment: str) -> Iterator[Any]:
    """The files of every version, and of registrations that came to nothing."""
    return (model for model in _pages(experiment, "search_logged_models") if model.name == NAME)


def _pages(experiment: str, call: str, **how: Any) -> Iterator[Any]:
    client = registry.client()
    found = client.get_experiment_by_name(experiment)
    page = "" if found is None else None
    while page != "":
        some = getattr(client, call)([found.experiment_id], page_token=page, **how)
        yield from some
        page = some.token or ""


def _folders(addresses: Iterable[str]) -> tuple[Path, ...]:
    """Where files lie on this machine; a copy of a project names those of the original, which are not its own.

    Raises:
        TrackingError: not in this project.
    """
    folders = tuple(folder for address in addresses if (folder := local(address)) is not None)
    for folder in folders:
        if Path.cwd() / ARTIFACTS not in folder.parents:
            raise TrackingError(
                f"{folder}: not in this project's {ARTIFACTS}; this is a copy of another project, or its store's files "
                "lie elsewhere",
                "prune where they are",
            )
    return folders


def freed(places: Collection[Path]) -> int:
    """Bytes that are free when these are gone; a file that something else shares (a hard link) frees none."""
    seen: dict[tuple[int, int], list[os.stat_result]] = {}
    for place in places:
        for path in [place, *place.rglob("*")]:
            if path.is_file() and not path.is_symlink():
                status = path.stat()
                seen.setdefault((status.st_dev, status.st_ino), []).append(status)
    return sum(found[0].st_size for found in seen.values() if len(found) == found[0].st_nlink)


@store.scrubbing()
def remove(old: Old, tick: Callable[[int], None] = lambda done: None) -> None:
    """Remove for good what `plan` found; killed and repeated, it goes on.

    A version goes before its files, so that none is ever there without them.

    Args:
        tick: called with 1 a version, its files, or run.

    Raises:
        TrackingError: the registry can't be used, it is a server's on another machine, or the champion is among them.
    """
    backend = _backend(old)
    with promotion_lock():
        current = registry.champion()
        if current is not None and current.number in {version.number for version in old.versions}:
            raise TrackingError(f"version {current.number} is the champion by now", "repeat the command")
        client = registry.client()
        for version in old.versions:
            with store.store_lock(store.tracking_uri()):
                client.delete_model_version(NAME, version.number)
            tick(1)
        for model in old.models:
            with store.store_lock(store.tracking_uri()):
                _for_good(backend.get_logged_model(model).artifact_location)
                backend._hard_delete_logged_model(model)
            tick(1)
        for run in old.runs:
            with store.store_lock(store.tracking_uri()):
                _for_good(backend.get_run(run).info.artifact_uri)
                backend._hard_delete_run(run)
            tick(1)


def _for_good(address: str) -> None:
    """Remove files; what MLflow knows of them goes after that, so that a later `plan` finds what a kill left."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    get_artifact_repository(address).delete_artifacts()  # type: ignore[no-untyped-call]


def _backend(old: Old) -> Any:
    """MLflow's store itself, which alone removes for good (as ``mlflow gc`` does); a server's when it is here.

    Raises:
        TrackingError: it is not here, or is another one than the server's.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking._tracking_service.utils import _get_store

    uri = store.tracking_uri()
    if store.sqlite_path(uri) is None and (os.environ.get(store.BACKEND) or Path("mlflow.db").is_file()):
        uri = store.backend_uri()
    try:
        backend = _get_store(uri)  # type: ignore[no-untyped-call]
        for run in old.runs:
            backend.get_run(run)
    except MlflowException as error:
        raise TrackingError(
            f"{store.redacted(uri)}: not the store of these runs: {error.message}", WHERE
        ) from error
    if not hasattr(backend, "_hard_delete_run"):
        raise TrackingError(f"{store.redacted(uri)}: a server's store", WHERE)
    return backend


WHERE = f"prune where the server's database is, with {store.BACKEND} naming it"
