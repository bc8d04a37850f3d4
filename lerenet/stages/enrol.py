"""Stage ``enrol``: what the live model knows of each class.

Memory and heads of a class are computed anew only when its images changed. The heads that all classes share are trained
anew whenever any image changed, and with them each class's readers are compared again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lerenet import layout, tracking
from lerenet.data.catalog import load_catalog
from lerenet.data.tiles import side_for, tiled
from lerenet.device import pick_device
from lerenet.enrolment.enrol import fits, learn, with_shared
from lerenet.enrolment.enrolled import (
    CLASSES,
    CURVE,
    FACTS,
    NETWORK,
    READINGS,
    SHARED,
    WHOLE,
    Image,
    Left,
    load_enrolled,
    load_heads,
    read_facts,
    save_enrolled,
    save_heads,
)
from lerenet.enrolment.material import Material, described_by
from lerenet.enrolment.scale import chosen_side, sides_of, tried
from lerenet.enrolment.shared import SharedHead, lesson, train_shared
from lerenet.enrolment.stored import code_digest, material_of
from lerenet.errors import DataError, ParamsError
from lerenet.features.store import FeatureStore
from lerenet.files import atomic_dir, atomic_path, is_whole, read_json, write_digest, write_json
from lerenet.models.serialization import LoadedNetwork, matching_network, save_network
from lerenet.params import Params, load_params
from lerenet.progress import progress

log = logging.getLogger(__name__)

KEPT = layout.CACHE / "enrol"  # a class a folder, named by what it was learnt from


def run() -> None:
    """Write ``artifacts/enrol/``: the network that describes, ``classes/<class>/``, and the heads that they share."""
    params = load_params(layout.PARAMS)
    catalog = load_catalog(layout.CATALOG)
    settings = params.enrolment.model_dump()
    with tracking.stage_run("enrol", "", layout.ENROL, params, settings={"enrolment": settings}) as run:
        run.set_dataset("data", layout.data_md5()[:36])
        enrolment = Enrolment(params, catalog)
        seconds = enrolment.learn()
        started = time.monotonic()
        shared = enrolment.share()
        seconds["shared heads"] = time.monotonic() - started
        with atomic_dir(layout.ENROL) as out:
            enrolment.write(out, shared)
            facts = [read_json(out / CLASSES / cls / FACTS) for cls in enrolment.classes]
            write_json(out / "metrics.json", _metrics(facts))
        seconds["in all"] = time.monotonic() - started
        run.log_metrics(
            {"classes": len(facts), "computed": len(seconds) - 2, "seconds": sum(seconds.values())}
        )
        run.log_metrics({f"seconds.{what}": value for what, value in seconds.items()})
        run.log_artifact(layout.ENROL / "metrics.json")


class Enrolment:
    """The classes of the catalogue, what each is learnt from, and where what was learnt is kept."""

    def __init__(self, params: Params, catalog: pd.DataFrame) -> None:
        self.params, self.settings = params, params.enrolment
        self.loaded = matching_network(params.image_size, params.ship.backbone, params.init)
        self.classes = sorted(str(cls) for cls in catalog["cls"].unique())
        self.rows = {cls: catalog[catalog["cls"] == cls].sort_values("image") for cls in self.classes}
        if unknown := sorted(set(self.settings.sides) - set(self.classes)):
            raise ParamsError(
                f"{layout.PARAMS}: enrolment.sides names {', '.join(unknown)}, of which there are no images",
                f"it may name {', '.join(self.classes)}",
            )
        self.backbone = self.loaded.network.backbone.to(pick_device())
        self.network = described_by(self.loaded)
        with progress("scale", len(self.classes)) as tick:
            self.sides = {cls: self.side(cls, tick) for cls in self.classes}
        self.squares = {cls: tiled(rows, self.sides, params.image_size) for cls, rows in self.rows.items()}
        self.store = FeatureStore(self.backbone, pd.concat(self.squares.values()), params, layout.DATA)
        self.folders = {
            cls: KEPT / _digest(self.squares[cls], self.network, self.loaded, params) for cls in self.classes
        }

    def material(self, cls: str) -> Material:
        """What a class is learnt from."""
        return material_of(self.store, self.squares[cls], self.loaded.network.head.levels)

    def side(self, cls: str, tick: Callable[[int, str], None]) -> int:
        """Of the squares of a class's pictures: as set, or chosen (`lerenet.enrolment.scale`) and kept."""
        tick(1, cls)
        if cls in self.settings.sides:
            return self.settings.sides[cls]
        rows, size = self.rows[cls], self.params.image_size
        shapes = list(zip(rows["height"], rows["width"], strict=True))
        sides = sides_of(shapes, size)
        if len(sides) < 2 or not (rows["kind"] == "defect").any():
            return sides[0]
        some = rows.iloc[tried(rows["group"].tolist(), (rows["kind"] == "defect").tolist(), self.params.seed)]
        given = json.dumps([_digest(some, self.network, self.loaded, self.params), sides, side_for(shapes)])
        kept = KEPT / f"side-{hashlib.sha256(given.encode()).hexdigest()[:24]}.json"
        if not is_whole(kept):
            materials = {}
            for side in sides:
                squares = tiled(some, {cls: side}, size)
                store = FeatureStore(self.backbone, squares, self.params, layout.DATA)
                store.ensure([cls])
                materials[side] = material_of(store, squares, self.loaded.network.head.levels)
            write_json(
                kept, {"class": cls, "sides": sides, "side": chosen_side(materials, shapes, self.settings)}
            )
            write_digest(kept)
        os.utime(kept)  # when it was used last
        return int(read_json(kept)["side"])

    def learn(self) -> dict[str, float]:
        """Learn, by themselves, the classes that are not kept; seconds of each."""
        fresh = [cls for cls in self.classes if not _kept(self.folders[cls] / cls)]
        with progress("features", self.store.size(self.classes)) as self.store.tick:
            self.store.ensure(self.classes)
        seconds = {}
        for number, cls in enumerate(fresh, 1):
            started = time.monotonic()
            material = self.material(cls)
            images = [_image(row) for row in self.rows[cls].to_dict("records")]
            with progress(f"enrol {cls} ({number}/{len(fresh)})", fits(material, self.settings)) as tick:
                enrolled, left = learn(
                    cls,
                    material,
                    images,
                    self.network,
                    self.settings,
                    self.params.seed,
                    tick,
                    self.params.precision,
                    self.sides[cls],
                )
            save_enrolled(self.folders[cls], enrolled, left)
            seconds[cls] = time.monotonic() - started
        return seconds

    def share(self) -> dict[str, SharedHead]:
        """The heads that all classes share, by the fold that they lack, and `WHOLE`; kept by what taught them."""
        if not self.settings.shared:
            return {}
        said = json.dumps([[folder.name for folder in self.folders.values()], self.settings.shared])
        kept = KEPT / f"shared-{hashlib.sha256(said.encode()).hexdigest()[:24]}.safetensors"
        if not is_whole(kept):
            with progress("shared heads", (self.settings.folds + 1) * self.settings.shared) as tick:
                heads = self._taught(tick)
            with atomic_path(kept) as temporary:
                save_heads(temporary, heads)
            write_digest(kept)
        os.utime(kept)  # when it was used last
        return load_heads(kept, SharedHead)

    def _taught(self, tick: Callable[[], None]) -> dict[str, SharedHead]:
        lessons = []
        for cls in self.classes:
            material = self.material(cls)
            memory = load_enrolled(self.folders[cls] / cls).memory.to(material.descriptors.device)
            lessons.append(lesson(material, memory, self.settings.folds, len(self.classes), self.params.seed))
        heads = {}
        for fold in (*range(self.settings.folds), None):
            head = train_shared(
                lessons, fold, self.settings.shared, self.params.seed, tick, self.params.precision
            )
            if head is not None:
                heads[WHOLE if fold is None else str(fold)] = head
        return heads

    def write(self, out: Path, shared: Mapping[str, SharedHead]) -> None:
        """The inspection model: each class with the reader that leaves its groups out best, of all there are."""
        network = {**self.loaded.config, "shots": self.params.ship.shots}
        save_network(out / NETWORK, self.loaded.network.head, self.loaded.network.backbone, network)
        if shared:
            save_heads(out / SHARED, shared)
        with progress("readers", len(self.classes)) as tick:
            for cls in self.classes:
                folder = self.folders[cls] / cls
                if shared:
                    left = Left(pd.read_parquet(folder / READINGS), pd.read_parquet(folder / CURVE))
                    whole = with_shared(
                        load_enrolled(folder), left, self.material(cls), shared, self.settings
                    )
                    save_enrolled(out / CLASSES, *whole)
                else:
                    shutil.copytree(folder, out / CLASSES / cls)
                tick(1, cls)


def _kept(folder: Path) -> bool:
    """Whether a class is there as it was written; one whose files were damaged is learnt again."""
    if not folder.exists():
        return False
    try:
        read_facts(folder)
    except DataError as error:
        log.warning("%s; it is learnt again", error.what)
        return False
    os.utime(folder.parent)  # when it was used last
    return True


def _digest(rows: pd.DataFrame, network: str, loaded: LoadedNetwork, params: Params) -> str:
    """Of all that makes a class what it is."""
    seen = {
        "images": rows[["image", "sha256", "mask_sha256", "group", "kind"]].to_numpy(str).tolist(),
        "network": network,
        "model": loaded.config["model"],
        "image_size": params.image_size,
        "precision": params.precision,
        "seed": params.seed,
        "settings": params.enrolment.model_dump(exclude={"shared", "sides"}),
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
