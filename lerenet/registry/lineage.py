"""Where a model came from: the chain from its files to the data, every link verified where it can be."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import ValidationError

from lerenet.data.catalog import load_catalog
from lerenet.data.folds import digest_of
from lerenet.errors import TrackingError
from lerenet.files import read_json
from lerenet.params import Params
from lerenet.registry import copies, registered
from lerenet.registry import versions as registry
from lerenet.registry.candidate import lock_hash, settings_hash
from lerenet.registry.registered import Version
from lerenet.tracking.git import git

LinkState = Literal["ok", "differs", "not here"]
DVC_FILES = Path(".dvc/cache/files/md5")


@dataclass(frozen=True)
class Link:
    """One step of the chain.

    Attributes:
        what: Its name.
        value: The digest or id that the version carries.
        state: ``ok``: found and the same; ``differs``: found and not the same; ``not here``: this machine can't tell.
        note: What was compared, or why not.
    """

    what: str
    value: str
    state: LinkState
    note: str


def trace(version: Version) -> list[Link]:
    """The chain of a registered version, from its files back to the data.

    Raises:
        TrackingError: the registry can't be used.
    """
    tags = version.tags
    folder = copies.local(version)
    package = folder / registered.PACKAGE
    settings = package / registered.PARAMS
    return [
        *_files(version, folder),
        _run("registration", version.run_id),
        _run("training", tags.get("training_run", "")),
        _run("pretraining", tags.get("pretraining_run", "")),
        _settings(tags.get("params_hash", ""), settings),
        _commit(tags.get("git_commit", ""), tags.get("git_dirty") == "true"),
        _lock(tags.get("lock", ""), tags.get("git_commit", ""), _params(settings)),
        _episodes(tags.get("episodes_digest", ""), package),
        _data(tags.get("data_md5", "")),
    ]


def _files(version: Version, folder: Path) -> list[Link]:
    links = []
    for name, digest, there in copies.check_files(version, folder):
        note = f"{folder / name} is gone" if there is None else "SHA-256 of the file in the store"
        links.append(
            Link(
                name.removeprefix(f"{registered.PACKAGE}/"),
                digest,
                "ok" if there == digest else "differs",
                note,
            )
        )
    return links or [Link("files", "", "differs", "the version carries no digests")]


def _run(what: str, run_id: str) -> Link:
    from mlflow.exceptions import MlflowException

    what = f"{what} run"
    if not run_id or run_id == "untracked":
        return Link(what, run_id, "not here", "the tracker was down: nothing to look up")
    try:
        run = registry.client().get_run(run_id)
    except MlflowException:
        return Link(what, run_id, "not here", "this MLflow store has no such run")
    if run.info.lifecycle_stage == "deleted":
        return Link(what, run_id, "differs", "in MLflow's bin: `mlflow gc` would delete its files")
    return Link(what, run_id, "ok", f"in MLflow, {run.info.status.lower()}")


def _settings(digest: str, path: Path) -> Link:
    if not path.is_file():
        return Link("settings", digest, "not here", f"the version holds no {path.name}")
    same = settings_hash(read_json(path)) == digest
    return Link("settings", digest, "ok" if same else "differs", f"{path.name} of the version")


def _params(path: Path) -> Params | None:
    """The version's settings, if this code still knows them all."""
    try:
        return Params.model_validate(read_json(path)) if path.is_file() else None
    except ValidationError:
        return None


def _commit(commit: str, dirty: bool) -> Link:
    if not commit or git("cat-file", "-e", f"{commit}^{{commit}}") is None:
        return Link("code", commit, "not here", "no such commit in this repository")
    return Link("code", commit, "ok", "in git, with changes that were not committed" if dirty else "in git")


def _lock(digest: str, commit: str, params: Params | None) -> Link:
    """The part of ``dvc.lock`` behind the version: as it is now, or as it was committed."""
    for where, text in (
        ("now", _text(Path("dvc.lock"))),
        (f"at {commit[:8]}", git("show", f"{commit}:./dvc.lock")),
    ):
        try:
            if text and params is not None and lock_hash(params, text) == digest:
                return Link("dvc.lock", digest, "ok", f"its part behind the version, as {where}")
        except TrackingError:
            continue
    return Link("dvc.lock", digest, "not here", "the project went on, and this state of it was not committed")


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _episodes(digest: str, package: Path) -> Link:
    episodes, catalog = package / registered.EPISODES, package / "catalog.parquet"
    if not (episodes.is_file() and catalog.is_file()):
        return Link("episodes", digest, "not here", "the version holds no episodes")
    same = digest_of(pd.read_parquet(episodes), load_catalog(catalog)) == digest
    return Link("episodes", digest, "ok" if same else "differs", "of the version's episodes and catalogue")


def _data(md5: str) -> Link:
    """DVC names a folder by the MD5 of its list of files, which lies in the cache under that name."""
    path = DVC_FILES / md5[:2] / md5[2:]
    if not md5.endswith(".dir") or not path.is_file():
        return Link(
            "data",
            md5,
            "not here",
            "DVC's cache has no such data: `dvc pull`, or git checkout and `dvc fetch`",
        )
    if f"{hashlib.md5(path.read_bytes()).hexdigest()}.dir" != md5:  # DVC's own digest, no secret
        return Link("data", md5, "differs", f"{path} is not what its name says")
    listed: list[dict[str, Any]] = read_json(path)
    kept = sum((DVC_FILES / item["md5"][:2] / item["md5"][2:]).is_file() for item in listed)
    return Link(
        "data",
        md5,
        "ok" if kept == len(listed) else "not here",
        f"{kept} of {len(listed)} files in DVC's cache",
    )
