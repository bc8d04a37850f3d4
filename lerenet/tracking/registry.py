"""The model registry: versions of ``lerenet`` with their lineage, found again, verified, never lost."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lerenet.errors import TrackingError
from lerenet.files import atomic_dir, recover_dir, scratch_dir, sha256_file, write_json
from lerenet.layout import CACHE, CATALOG, FOLDS, PROFILE, WEIGHTS
from lerenet.metrics import MIOU
from lerenet.params import Params
from lerenet.tracking import card, datasets, served, store
from lerenet.tracking.candidate import Candidate

log = logging.getLogger(__name__)

NAME = "lerenet"
PACKAGE = "artifacts/package"  # in a version's folder: what this project reads of it
PARAMS = "params.json"  # the settings
EPISODES = "episodes.parquet"  # the ones it was scored on
CHAMPION = "champion"


@dataclass(frozen=True)
class Version:
    """A registered version: its number, tags, aliases, run and where its files are."""

    number: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    run_id: str
    source: str


def _version(found: Any) -> Version:
    aliases = tuple(found.aliases or ())
    return Version(str(found.version), dict(found.tags), aliases, found.run_id or "", found.source)


def client() -> Any:
    """An `MlflowClient` of a registry that answers.

    Raises:
        TrackingError: when the store can't be used or a server is down.
    """
    uri = store.tracking_uri()
    store.check_uri(uri)
    if not store.reachable(uri):
        raise TrackingError(f"{store.VARIABLE}={store.redacted(uri)}: nothing answers there", store.REMEDY)
    store.load()
    with store.store_lock(uri):
        return store.client_of(uri)


# -- reading ------------------------------------------------------------------------------------


@store.scrubbing()
def versions(lock: str = "") -> list[Version]:
    """All versions, newest first; or those registered from a state of ``dvc.lock`` (see `lock_hash`)."""
    wanted = f"name='{NAME}'" + (f" and tags.lock='{lock}'" if lock else "")
    found: list[Any] = []
    page: str | None = None
    while page != "":
        some = client().search_model_versions(wanted, max_results=1000, page_token=page)
        found, page = [*found, *some], some.token or ""
    # A search leaves the aliases out; the model itself knows them.
    aliases: dict[str, list[str]] = {}
    for alias, number in (_aliases() if found else {}).items():
        aliases.setdefault(number, []).append(alias)
    all_ = [_version(item) for item in found]
    known = [Version(**{**item.__dict__, "aliases": tuple(aliases.get(item.number, ()))}) for item in all_]
    return sorted(known, key=lambda item: -int(item.number))


def _aliases() -> dict[str, str]:
    return {alias: str(number) for alias, number in client().get_registered_model(NAME).aliases.items()}


def get(number: str) -> Version:
    """One version.

    Raises:
        TrackingError: when there is none of that number, or the registry can't be used.
    """
    if not number.isdigit():
        raise TrackingError(f"{number!r} is no version", "give a number, or 'champion'; see `lerenet models`")
    found = _one("get_model_version", number)
    if found is None:
        raise TrackingError(f"version {number} of {NAME} does not exist", "see `lerenet models`")
    return found


def champion() -> Version | None:
    """The version behind the alias ``champion``, or None.

    Raises:
        TrackingError: the registry can't be used.
    """
    return _one("get_model_version_by_alias", CHAMPION)


def _one(call: str, which: str) -> Version | None:
    """What a call of the client finds; None only where the store says that there is no such thing."""
    from mlflow.exceptions import MlflowException

    try:
        return _version(getattr(client(), call)(NAME, which))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        reason = store.scrubbed(str(error.message), store.tracking_uri())
        raise TrackingError(f"{NAME} {which} can't be read: {reason}", store.REMEDY) from None


def find_by_lock(lock: str) -> Version | None:
    """The newest version registered from this state of ``dvc.lock``."""
    return next(iter(versions(lock)), None)


def find(model: str) -> Version:
    """The version of a number, or the ``champion``.

    Raises:
        TrackingError: no such version, or no champion yet.
    """
    found = champion() if model == CHAMPION else get(model)
    if found is None:
        raise TrackingError("there is no champion yet", "run the retraining, or `lerenet promote VERSION`")
    return found


def resolve(model: str) -> Path:
    """Package of a version (``champion`` or a number), every file of it checked against the digests in its tags.

    Raises:
        TrackingError: no such version, no champion yet, or a file that is not the registered one.
    """
    return verified(find(model))


def verified(found: Version) -> Path:
    """Package of a version, every file of it checked against the digests in its tags.

    A download that is not right is fetched once more.

    Raises:
        TrackingError: a file that is not the registered one.
    """
    folder = local(found)
    wrong = _wrong(found, folder)
    if wrong and CACHE in folder.parents:
        shutil.rmtree(_download(found))
        folder = local(found)
        wrong = _wrong(found, folder)
    if wrong:
        raise TrackingError(
            f"version {found.number}: {wrong} is not the file that was registered (sha256 differs)",
            "restore the store's artifacts from a backup, or roll back: `lerenet rollback`",
        )
    return folder / PACKAGE


def _wrong(found: Version, folder: Path) -> Path | None:
    """The first file that is not the registered one, is gone, or was put into the package afterwards.

    Raises:
        TrackingError: the version carries no digests.
    """
    checked = list(check_files(found, folder))
    if not any(digest for _, digest, _ in checked):
        raise TrackingError(f"version {found.number} carries no digests", "register it again")
    return next((folder / name for name, digest, there in checked if there != digest), None)


def check_files(found: Version, folder: Path) -> Iterator[tuple[str, str, str | None]]:
    """Name of each file of a version, its registered SHA-256, and that in ``folder`` (None: it is gone).

    For a file that was put into the package afterwards the registered one is empty. (MLflow itself puts files beside
    the package.)
    """
    digests = json.loads(found.tags.get("sha256", "{}"))
    packed = sorted(f"{PACKAGE}/{name}" for name in _files(folder / PACKAGE))
    for name, digest in (dict.fromkeys(packed, "") | digests).items():
        path = folder / name
        yield name, digest, sha256_file(path) if path.is_file() else None


@store.scrubbing()
def local(found: Version) -> Path:
    """Folder of a version's files, downloaded where the store is a server's; `verified` checks them, too."""
    parts = urlsplit(found.source)
    if parts.scheme in ("", "file"):
        return Path(unquote(parts.path))
    kept = _download(found)
    if not kept.exists():
        import mlflow

        with atomic_dir(kept) as temporary:
            mlflow.artifacts.download_artifacts(
                artifact_uri=found.source, dst_path=str(temporary), tracking_uri=store.tracking_uri()
            )
    return next((path.parent for path in kept.rglob("MLmodel")), kept)


def _download(found: Version) -> Path:
    return CACHE / "registry" / f"{found.number}-{found.tags.get('weights_sha256', '')[:12]}"


# -- writing ------------------------------------------------------------------------------------


@store.scrubbing()
def register(candidate: Candidate, params: Params) -> str:
    """Register ``candidate`` and return its version; the same ``dvc.lock`` gives the same version again.

    The version appears with all its files and tags at once, or not at all.
    """
    with store.store_lock(store.tracking_uri()):
        recover_dir(CACHE / "register")  # of a registration that was killed
        before = find_by_lock(candidate.lineage["lock"])
        if before is not None:
            return before.number
        with scratch_dir(CACHE / "register") as folder:
            tags, model = _tags(candidate), folder / "model"
            logged = _logged_model(candidate, params, tags)
            served.save(model, _package(folder / "package", candidate, params, tags), logged.model_id)
            return _create(model, logged, {**tags, **_digests(model)}, candidate)


def _package(folder: Path, candidate: Candidate, params: Params, tags: Mapping[str, str]) -> Path:
    shutil.copytree(candidate.model, folder)
    for split, model in candidate.folds.items():
        shutil.copytree(model, folder / "folds" / split)
    candidate.counts.to_parquet(folder / "counts.parquet", index=False)
    write_json(folder / PARAMS, params.model_dump(mode="json"))
    for path in (CATALOG, PROFILE, FOLDS / EPISODES):
        if path.exists():
            shutil.copyfile(path, folder / path.name)  # for drift and lineage
    (folder / "README.md").write_text(card.render(candidate, tags), encoding="utf-8")
    return folder


def _tags(candidate: Candidate) -> dict[str, str]:
    return {
        **candidate.lineage,
        **{name: f"{value:.4f}" for name, value in candidate.scores.items()},
        "latency_ms": f"{candidate.latency_ms:.1f}",
        "validated": str(candidate.validated).lower(),
        "verdict": "candidate",
        "weights_sha256": sha256_file(candidate.model / WEIGHTS),
    }


def _digests(model: Path) -> dict[str, str]:
    """The tag with the SHA-256 of every file, the code that MLflow runs among them."""
    digests = {name: sha256_file(model / name) for name in sorted(_files(model))}
    return {"sha256": json.dumps(digests, sort_keys=True)}


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _logged_model(candidate: Candidate, params: Params, tags: Mapping[str, str]) -> Any:
    """MLflow's LoggedModel of the candidate, in a run of its own, not ready yet."""
    service, experiment = store.connect(params.experiment)
    name = f"register@{candidate.cell}"
    run = service.create_run(experiment, run_name=name, tags={"stage": "register", "key": candidate.cell})
    settings = {"cell": candidate.cell, "image_size": str(params.image_size)}
    return service.create_logged_model(
        experiment, NAME, run.info.run_id, tags=dict(tags), params=settings, model_type="segmentation"
    )


def _send(model: Path, logged: Any, candidate: Candidate) -> None:
    """The model's files and its scores, linked to the data that they were measured on."""
    from mlflow.entities import DatasetInput, LoggedModelOutput

    service, run_id = client(), logged.source_run_id
    episodes = datasets.episodes(candidate.lineage["episodes_digest"])
    service.log_model_artifacts(logged.model_id, str(model))
    service.finalize_logged_model(logged.model_id, "READY")
    service.log_inputs(
        run_id, [DatasetInput(datasets.data(candidate.lineage["data_md5"])), DatasetInput(episodes)]
    )
    service.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    for name, value in candidate.scores.items():
        service.log_metric(
            run_id, name, value,
            model_id=logged.model_id, dataset_name=episodes.name, dataset_digest=episodes.digest,
        )  # fmt: skip
    service.set_terminated(run_id)


def _create(model: Path, logged: Any, tags: Mapping[str, str], candidate: Candidate) -> str:
    from mlflow.exceptions import MlflowException

    service = client()
    _send(model, logged, candidate)
    try:
        service.create_registered_model(NAME, description="Few-shot segmentation of surface defects")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    os.sync()  # files first: a version must not outlive them
    made = service.create_model_version(
        NAME, logged.artifact_location, run_id=logged.source_run_id, tags=dict(tags), model_id=logged.model_id,
        description=f"{candidate.cell}: {MIOU.title} {candidate.scores[MIOU.name]:.1f}",
    )  # fmt: skip
    return str(made.version)


@store.scrubbing()
def set_tags(number: str, tags: Mapping[str, str]) -> None:
    """Set tags of a version; setting them again changes nothing."""
    service = client()
    with store.store_lock(store.tracking_uri()):
        for name, value in tags.items():
            service.set_model_version_tag(NAME, number, name, value)


@store.scrubbing()
def describe(number: str, verdict: str) -> None:
    """Show ``verdict`` above the model card in the version's description."""
    text = (local(get(number)) / PACKAGE / "README.md").read_text(encoding="utf-8")
    with store.store_lock(store.tracking_uri()):
        client().update_model_version(NAME, number, description=f"**{verdict}**\n\n{text}"[:4900])


@store.scrubbing()
def set_champion(number: str) -> None:
    """Move the alias ``champion`` in one call: a reader sees the old version or the new one."""
    with store.store_lock(store.tracking_uri()):
        client().set_registered_model_alias(NAME, CHAMPION, number)
