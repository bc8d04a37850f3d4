"""Stage ``enrol``: what the live model knows of each class, computed anew only for classes whose images changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from lerenet import layout, tracking
from lerenet.data.catalog import load_catalog
from lerenet.device import pick_device
from lerenet.enrolment.enrol import fits, learn
from lerenet.enrolment.enrolled import CLASSES, FACTS, NETWORK, Image, save_enrolled
from lerenet.enrolment.material import described_by
from lerenet.enrolment.stored import code_digest, material_of
from lerenet.features.store import FeatureStore
from lerenet.files import atomic_dir, read_json, write_json
from lerenet.models.serialization import LoadedNetwork, matching_network, save_network
from lerenet.params import Params, load_params
from lerenet.progress import progress

KEPT = layout.CACHE / "enrol"  # a class a folder, named by what it was learnt from


def run() -> None:
    """Write ``artifacts/enrol/``: the network that describes, and ``classes/<class>/``."""
    params = load_params(layout.PARAMS)
    catalog = load_catalog(layout.CATALOG)
    settings = params.enrolment.model_dump()
    with tracking.stage_run("enrol", "", layout.ENROL, params, settings={"enrolment": settings}) as run:
        run.set_dataset("data", layout.data_md5()[:36])
        loaded = matching_network(params.image_size, params.ship.backbone, params.init)
        store = FeatureStore(loaded.network.backbone.to(pick_device()), catalog, params, layout.DATA)
        digest = described_by(loaded)
        classes = sorted(str(cls) for cls in catalog["cls"].unique())
        rows = {cls: catalog[catalog["cls"] == cls].sort_values("image") for cls in classes}
        folders = {cls: KEPT / _digest(rows[cls], digest, loaded, params) for cls in classes}
        fresh = [cls for cls in classes if not (folders[cls] / cls / FACTS).exists()]
        with progress("features", store.size(fresh)) as store.tick:
            store.ensure(fresh)
        seconds = {}
        for number, cls in enumerate(fresh, 1):
            started = time.monotonic()
            material = material_of(store, rows[cls], loaded.network.head.levels)
            images = [_image(row) for row in rows[cls].to_dict("records")]
            with progress(f"enrol {cls} ({number}/{len(fresh)})", fits(material, params.enrolment)) as tick:
                enrolled, left = learn(
                    cls, material, images, digest, params.enrolment, params.seed, tick, params.precision
                )
            save_enrolled(folders[cls], enrolled, left)
            seconds[cls] = time.monotonic() - started
        with atomic_dir(layout.ENROL) as out:
            network = {**loaded.config, "shots": params.ship.shots}
            save_network(out / NETWORK, loaded.network.head, loaded.network.backbone, network)
            for cls in classes:
                shutil.copytree(folders[cls] / cls, out / CLASSES / cls)
            facts = [read_json(out / CLASSES / cls / FACTS) for cls in classes]
            write_json(out / "metrics.json", _metrics(facts))
        run.log_metrics({"classes": len(classes), "computed": len(fresh), "seconds": sum(seconds.values())})
        run.log_metrics({f"seconds.{cls}": value for cls, value in seconds.items()})
        run.log_artifact(layout.ENROL / "metrics.json")


def _digest(rows: pd.DataFrame, network: str, loaded: LoadedNetwork, params: Params) -> str:
    """Of all that makes a class what it is."""
    seen = {
        "images": rows[["image", "sha256", "mask_sha256", "group", "kind"]].to_numpy(str).tolist(),
        "network": network,
        "model": loaded.config["model"],
        "image_size": params.image_size,
        "precision": params.precision,
        "seed": params.seed,
        "settings": params.enrolment.model_dump(),
        "code": code_digest(),
    }
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:24]


def _image(row: Mapping[Hashable, Any]) -> Image:
    masks = str(row["mask_sha256"] or "")
    return Image(str(row["image"]), str(row["sha256"]), str(row["group"]), (masks,) if masks else ())


def _metrics(facts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How many classes there are, of how many images, and by which reader they are read."""
    counts: dict[str, float] = {"classes": len(facts)}
    for kind in ("examples", "good"):
        counts[kind] = sum(len(one[kind]) for one in facts)
    counts["calibrated"] = sum(one["point"] is not None for one in facts)
    for one in facts:
        counts[f"reader.{one['reader']}"] = counts.get(f"reader.{one['reader']}", 0) + 1
    return counts
