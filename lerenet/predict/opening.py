"""Which model predicts, and the digest of all that decides its masks."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import lerenet
from lerenet.data.reading import Reading
from lerenet.device import pick_device
from lerenet.errors import ModelError, TrackingError
from lerenet.features.store import fingerprint
from lerenet.layout import PARAMS
from lerenet.models.serialization import CONFIG, LoadedNetwork, load_network, matching_network
from lerenet.predict.results import sha256
from lerenet.predict.supports import Examples

WITHOUT_TRAINING = "--model matching segments at once, without any training"


def open_model(model: str, image_size: int = 200) -> LoadedNetwork:
    """Load ``champion``, a version number, ``matching`` or a model folder.

    Raises:
        ModelError: nothing of that name; no champion yet; weights that don't fit.
        TrackingError: the registry can't be used.
    """
    if model == "matching":
        return matching_network(image_size)
    if model == "champion" or model.isdigit():
        from lerenet.registry import copies
        from lerenet.registry import versions as registry

        try:
            version = registry.find(model)
            return replace(load_network(copies.verified(version)), version=version.number)
        except TrackingError as error:
            training = "`dvc repro` makes a model to promote; " if PARAMS.is_file() else ""
            raise ModelError(error.what, f"{error.remedy}; {training}{WITHOUT_TRAINING}") from error
    for folder in (Path(model), Path(model) / "model"):
        if (folder / CONFIG).is_file():
            return load_network(folder)
    raise ModelError(
        f"no model {model!r}",
        "say champion, a version number, matching, or a model folder such as artifacts/train/<cell>/model",
    )


def digest_of(loaded: LoadedNetwork, examples: Examples, reading: Reading) -> str:
    """Of all that decides the masks beside the queries."""
    facts = {
        "lerenet": lerenet.__version__,
        "network": fingerprint(loaded.network),
        "config": dict(loaded.config),
        "version": loaded.version,
        "size": [loaded.image_size, loaded.threshold],
        "supports": examples.sha256,
        "reading": asdict(reading),
        "device": pick_device().type,
    }
    return sha256(json.dumps(facts, sort_keys=True, default=str).encode())
