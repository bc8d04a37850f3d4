"""The model registry: versions of ``lerenet`` with their lineage, found again, verified, never lost."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd

from lerenet.errors import TrackingError
from lerenet.files import atomic_dir, recover_dir, scratch_dir, sha256_file, write_json
from lerenet.layout import CACHE, CATALOG, FOLDS, PROFILE
from lerenet.params import Params
from lerenet.tracking import card, store
from lerenet.tracking.candidate import Candidate

log = logging.getLogger(__name__)

NAME = "lerenet"
PARAMS = "params.json"  # in a version's package: the settings
EPISODES = "episodes.parquet"  # those it was scored on
CHAMPION = "champion"
PYFUNC = Path(__file__).parent / "pyfunc_model.py"
REQUIREMENTS = (
    "mlflow",
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "numpy",
    "pandas",
    "pillow",
    "pydantic",
)


@dataclass(frozen=True)
class Version:
    """A registered version: its number, tags, aliases, run and where its files are."""

    number: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    run_id: str
    source: str
    created: int  # milliseconds since 1970

    @property
    def is_champion(self) -> bool:
        """Whether the alias ``champion`` points here."""
        return CHAMPION in self.aliases


def _version(found: Any) -> Version:
    aliases = tuple(found.aliases or ())
    created = int(found.creation_timestamp)
    return Version(str(found.version), dict(found.tags), aliases, found.run_id or "", found.source, created)


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


def versions() -> list[Version]:
    """All versions, newest first."""
    found = client().search_model_versions(f"name='{NAME}'", max_results=1000)
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
        TrackingError: when there is none of that number.
    """
    from mlflow.exceptions import MlflowException

    if not number.isdigit():
        raise TrackingError(f"{number!r} is no version", "give a number, or 'champion'; see `lerenet models`")
    try:
        return _version(client().get_model_version(NAME, number))
    except MlflowException as error:
        raise TrackingError(f"version {number} of {NAME} does not exist", "see `lerenet models`") from error


def champion() -> Version | None:
    """The version behind the alias ``champion``, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return _version(client().get_model_version_by_alias(NAME, CHAMPION))
    except MlflowException as error:
        # Only "no such alias" and "no such model" mean none: a failing store must not look like it.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        reason = store.scrubbed(str(error.message), store.tracking_uri())
        raise TrackingError(f"the champion can't be read: {reason}", store.REMEDY) from error


def find_by_lock(lock: str) -> Version | None:
    """The newest version registered from this state of ``dvc.lock``."""
    same = [item for item in versions() if item.tags.get("lock") == lock]
    return same[0] if same else None


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
    """Local folder of a version (``champion`` or a number), its files checked against its tags' digests.

    Raises:
        TrackingError: no such version, no champion yet, or a file that is not the registered one.
    """
    return verified(find(model))


def verified(found: Version) -> Path:
    """Local folder of a version, its files checked against its tags' digests.

    Raises:
        TrackingError: a file that is not the registered one.
    """
    folder = local(found)
    checked = list(check_files(found, folder))
    if "weights.safetensors" not in [name for name, _, _ in checked]:
        raise TrackingError(f"version {found.number} carries no digests", "register it again")
    for name, digest, there in checked:
        if there != digest:
            raise TrackingError(
                f"version {found.number}: {folder / name} is not the file that was registered (sha256 differs)",
                "restore the store's artifacts from a backup, or roll back: `lerenet rollback`",
            )
    return folder


def check_files(found: Version, folder: Path) -> Iterator[tuple[str, str, str | None]]:
    """Name of each file of a version, its registered SHA-256, and that in ``folder`` (None: it is gone)."""
    for name, digest in json.loads(found.tags.get("sha256", "{}")).items():
        path = folder / name
        yield name, digest, sha256_file(path) if path.is_file() else None


def local(found: Version) -> Path:
    """Folder of a version's files, downloaded where the store is a server's; `resolve` checks them, too."""
    parts = urlsplit(found.source)
    if parts.scheme in ("", "file"):
        return Path(unquote(parts.path)) / "artifacts" / "package"
    kept = CACHE / "registry" / f"{found.number}-{found.tags.get('weights_sha256', '')[:12]}"
    if not kept.exists():
        import mlflow

        with atomic_dir(kept) as temporary:
            mlflow.artifacts.download_artifacts(
                artifact_uri=found.source, dst_path=str(temporary), tracking_uri=store.tracking_uri()
            )
    return next(kept.rglob("package"))


# -- writing ------------------------------------------------------------------------------------


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
            package = _package(folder / "package", candidate, params)
            tags = _tags(candidate, package)
            (package / "README.md").write_text(card.render(candidate, tags), encoding="utf-8")
            _save(folder / "model", package)
            return _create(folder / "model", tags, candidate, params)


def _package(folder: Path, candidate: Candidate, params: Params) -> Path:
    shutil.copytree(candidate.model, folder)
    for split, model in candidate.folds.items():
        shutil.copytree(model, folder / "folds" / split)
    candidate.counts.to_parquet(folder / "counts.parquet", index=False)
    write_json(folder / PARAMS, params.model_dump(mode="json"))
    for path in (CATALOG, PROFILE, FOLDS / EPISODES):
        if path.exists():
            shutil.copyfile(path, folder / path.name)  # for drift and lineage
    return folder


def _tags(candidate: Candidate, package: Path) -> dict[str, str]:
    files = sorted(path for path in package.rglob("*") if path.is_file())
    digests = {path.relative_to(package).as_posix(): sha256_file(path) for path in files}
    return {
        **candidate.lineage,
        **{name: f"{value:.4f}" for name, value in candidate.scores.items()},
        "latency_ms": f"{candidate.latency_ms:.1f}",
        "validated": str(candidate.validated).lower(),
        "verdict": "candidate",
        "weights_sha256": digests["weights.safetensors"],
        "sha256": json.dumps(digests, sort_keys=True),
    }


def _save(path: Path, package: Path) -> None:
    pyfunc().save_model(
        str(path),
        python_model=str(PYFUNC),
        artifacts={"package": str(package)},
        signature=_signature(),
        input_example=_example(),
        pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
    )


def pyfunc() -> Any:
    """The module `mlflow.pyfunc`, imported without what it warns of itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
    return mlflow.pyfunc


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    texts = Array(DataType.string)
    inputs = Schema(
        [ColSpec(texts, "support_images"), ColSpec(texts, "support_masks"), ColSpec("string", "query")]
    )
    outputs = Schema([ColSpec("string", "mask"), ColSpec("double", "foreground_share")])
    return ModelSignature(inputs=inputs, outputs=outputs)


def _example() -> pd.DataFrame:
    """A tiny episode of made-up pictures: a dark square on grey."""
    from PIL import Image

    def encoded(picture: Any) -> str:
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        return base64.b64encode(buffer.getvalue()).decode("ascii")

    image, mask = Image.new("RGB", (64, 64), (150, 150, 150)), Image.new("L", (64, 64), 0)
    image.paste((40, 40, 40), (20, 20, 44, 44))
    mask.paste(255, (20, 20, 44, 44))
    row = {"support_images": [encoded(image)], "support_masks": [encoded(mask)], "query": encoded(image)}
    return pd.DataFrame([row])


def _create(model: Path, tags: Mapping[str, str], candidate: Candidate, params: Params) -> str:
    from mlflow.exceptions import MlflowException

    service, experiment = store.connect(params.experiment)
    name = f"register@{candidate.cell}"
    run = service.create_run(experiment, run_name=name, tags={"stage": "register", "key": candidate.cell})
    service.log_artifacts(run.info.run_id, str(model), "model")
    service.set_terminated(run.info.run_id)
    try:
        service.create_registered_model(NAME, description="Few-shot segmentation of surface defects")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    os.sync()  # files first: a version must not outlive them
    made = service.create_model_version(
        NAME, f"{run.info.artifact_uri}/model", run_id=run.info.run_id, tags=dict(tags),
        description=f"{candidate.cell}: mIoU {candidate.scores['miou']:.1f}",
    )  # fmt: skip
    return str(made.version)


def set_tags(number: str, tags: Mapping[str, str]) -> None:
    """Set tags of a version; setting them again changes nothing."""
    service = client()
    with store.store_lock(store.tracking_uri()):
        for name, value in tags.items():
            service.set_model_version_tag(NAME, number, name, value)


def describe(number: str, verdict: str) -> None:
    """Show ``verdict`` above the model card in the version's description."""
    text = (local(get(number)) / "README.md").read_text(encoding="utf-8")
    with store.store_lock(store.tracking_uri()):
        client().update_model_version(NAME, number, description=f"**{verdict}**\n\n{text}"[:4900])


def set_champion(number: str) -> None:
    """Move the alias ``champion`` in one call: a reader sees the old version or the new one."""
    with store.store_lock(store.tracking_uri()):
        client().set_registered_model_alias(NAME, CHAMPION, number)


def delete_version(number: str) -> None:
    """Delete a version that no alias points to.

    Raises:
        TrackingError: when an alias points to it, or it is a version that a rollback would need.
    """
    found = get(number)
    current = champion()
    if found.aliases:
        raise TrackingError(
            f"version {number} is {', '.join(found.aliases)} and can't be deleted",
            "promote another version first",
        )
    if current is not None and current.tags.get("previous_champion") == number:
        raise TrackingError(
            f"version {number} is what a rollback would go back to", "promote another version first"
        )
    with store.store_lock(store.tracking_uri()):
        client().delete_model_version(NAME, number)
