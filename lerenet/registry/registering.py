"""Registering a candidate: whole and once, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lerenet.enrolment.enrolled import CLASSES, NETWORK, SHARED
from lerenet.evaluation.metrics import MIOU, NAMES
from lerenet.files import read_json, recover_dir, scratch_dir, sha256_file, write_json
from lerenet.layout import CACHE, CATALOG, ENROL, FOLDS, INSPECT, PROFILE, WEIGHTS
from lerenet.params import Params
from lerenet.registry import card, links, served
from lerenet.registry.candidate import Candidate
from lerenet.registry.copies import files_of
from lerenet.registry.registered import EPISODES, INSPECTED, INSPECTION, NAME, PARAMS, Version
from lerenet.registry.versions import client, find_by_lock, versions
from lerenet.tracking import datasets, moved, store

RENAMED = {"fb_low": "fb_iou_low", "fb_high": "fb_iou_high"}  # tags of earlier releases


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
            logged = _logged_model(params.experiment, str(params.image_size), tags)
            served.save(model, _package(folder / "package", candidate, params, tags), logged.model_id)
            return _create(model, logged, {**tags, **_digests(model)}, candidate.scores)


@store.scrubbing()
def register_again(version: Version, package: Path, params: Params, without: Sequence[str]) -> str:
    """Register the package of ``version`` anew, with the code of now, and return the new version's number.

    Weights, settings, counts and tags are the same, but for the tags ``without``; ``renewed_from`` says of what.
    Repeated, it gives the same version.
    """
    with store.store_lock(store.tracking_uri()):
        recover_dir(CACHE / "register")
        for other in versions():
            if other.tags.get("renewed_from") == version.number:
                return other.number
        with scratch_dir(CACHE / "register") as folder:
            model = folder / "model"
            kept = {RENAMED.get(name, name): value for name, value in version.tags.items()}
            tags = {name: value for name, value in kept.items() if name not in ("sha256", *without)}
            tags |= {"renewed_from": version.number, "verdict": "candidate"}
            size = str(read_json(package / "config.json")["image_size"])
            logged = _logged_model(params.experiment, size, tags)
            served.save(model, package, logged.model_id)
            scores = {name: float(tags[name]) for name in NAMES if name in tags}
            return _create(model, logged, {**tags, **_digests(model)}, scores)


def _package(folder: Path, candidate: Candidate, params: Params, tags: Mapping[str, str]) -> Path:
    shutil.copytree(candidate.model, folder)
    for split, model in candidate.folds.items():
        shutil.copytree(model, folder / "folds" / split)
    for part in (NETWORK, CLASSES):
        shutil.copytree(ENROL / part, folder / INSPECTION / part)
    if (ENROL / SHARED).is_file():
        shutil.copyfile(ENROL / SHARED, folder / INSPECTION / SHARED)
    shutil.copyfile(INSPECT / INSPECTED, folder / INSPECTION / INSPECTED)
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
    digests = {name: sha256_file(model / name) for name in sorted(files_of(model))}
    return {"sha256": json.dumps(digests, sort_keys=True)}


def _logged_model(experiment_name: str, image_size: str, tags: Mapping[str, str]) -> Any:
    """MLflow's LoggedModel of a version to be, in a run of its own, not ready yet."""
    service, experiment = store.connect(experiment_name)
    cell = tags["cell"]
    run = service.create_run(experiment, run_name=f"register@{cell}", tags={"stage": "register", "key": cell})
    settings = {"cell": cell, "image_size": image_size}
    return service.create_logged_model(
        experiment, NAME, run.info.run_id, tags=dict(tags), params=settings, model_type="segmentation"
    )


def _send(model: Path, logged: Any, tags: Mapping[str, str], scores: Mapping[str, float]) -> None:
    """The model's files and its scores, linked to the data that they were measured on."""
    from mlflow.entities import DatasetInput, LoggedModelOutput

    service, run_id = client(), logged.source_run_id
    episodes = datasets.episodes(tags["episodes_digest"])
    service.log_model_artifacts(logged.model_id, str(model))
    service.finalize_logged_model(logged.model_id, "READY")
    service.log_inputs(run_id, [DatasetInput(datasets.data(tags["data_md5"])), DatasetInput(episodes)])
    service.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    for name, value in scores.items():
        service.log_metric(
            run_id, name, value,
            model_id=logged.model_id, dataset_name=episodes.name, dataset_digest=episodes.digest,
        )  # fmt: skip
    service.set_terminated(run_id)


def _create(model: Path, logged: Any, tags: Mapping[str, str], scores: Mapping[str, float]) -> str:
    from mlflow.exceptions import MlflowException

    service = client()
    _send(model, logged, tags, scores)
    try:
        service.create_registered_model(NAME, description="Few-shot segmentation of surface defects")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if (folder := moved.local(logged.artifact_location)) is not None:
        links.share(folder)
    os.sync()  # files first: a version must not outlive them
    made = service.create_model_version(
        NAME, logged.artifact_location, run_id=logged.source_run_id, tags=dict(tags), model_id=logged.model_id,
        description=f"{tags['cell']}: {MIOU.title} {scores[MIOU.name]:.1f}",
    )  # fmt: skip
    return str(made.version)
