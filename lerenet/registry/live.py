"""Champion and challenger on every image that the challenger was given, each image left out of both.

A group keeps its fold for ever, so neither has seen the part that it is asked about, the newest images included. A
class that the champion does not know it leaves unmarked and uncalled.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lerenet import layout
from lerenet.data.catalog import load_catalog
from lerenet.device import pick_device
from lerenet.enrolment.enrolled import CLASSES, FACTS, NETWORK, READINGS, load_enrolled
from lerenet.enrolment.stored import material_of
from lerenet.enrolment.variants import asked
from lerenet.features.store import FeatureStore
from lerenet.files import read_json
from lerenet.models.serialization import load_network
from lerenet.params import Params
from lerenet.registry.registered import INSPECTED, INSPECTION


def challenger_rows(package: Path) -> pd.DataFrame:
    """What a version says of each image that it was given (`lerenet.enrolment.verdicts.left_out`)."""
    return pd.read_parquet(package / INSPECTION / INSPECTED)


def champion_rows(package: Path, challenger: Path, params: Params) -> pd.DataFrame:
    """What the champion in ``package`` says of the images of the ``challenger``'s package.

    A class that both hold alike is not computed again. Images of parts that the champion knows in every fold are
    left out.
    """
    rows = challenger_rows(challenger)
    store: FeatureStore | None = None
    parts = []
    for cls, own in rows.groupby("cls"):
        folder = package / INSPECTION / CLASSES / str(cls)
        if not folder.is_dir():
            parts.append(unknown(own))
        elif read_json(folder / FACTS) == read_json(challenger / INSPECTION / CLASSES / str(cls) / FACTS):
            parts.append(own)
        else:
            store = store or _store(package / INSPECTION / NETWORK, params)
            parts.append(_asked(folder, store, str(cls), params))
    return pd.concat(parts, ignore_index=True)


def _store(network: Path, params: Params) -> FeatureStore:
    loaded = load_network(network)
    sized = params.model_copy(update={"image_size": loaded.image_size})
    backbone = loaded.network.backbone.to(pick_device())
    return FeatureStore(backbone, load_catalog(layout.CATALOG), sized, layout.DATA)


def _asked(folder: Path, store: FeatureStore, cls: str, params: Params) -> pd.DataFrame:
    images = store.catalog[store.catalog["cls"] == cls].sort_values("image")
    store.ensure([cls])
    material = material_of(store, images, store.backbone.levels)
    own, settings = pd.read_parquet(folder / READINGS), params.enrolment
    rows = asked(load_enrolled(folder), own, material, settings.false_calls, settings.reviews)
    names = images["image"].to_numpy()
    return rows.assign(image=[names[place] for place in rows.pop("place")], cls=cls)


def unknown(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as a model has them that does not know the class: nothing is marked or called."""
    fn, tn = rows["tp"] + rows["fn"], rows["fp"] + rows["tn"]
    return rows.assign(tp=0, fp=0, fn=fn, tn=tn, overlap=0.0, score=0.0, verdict="OK", reader="")


def images_of(package: Path) -> set[str]:
    """The images that a version's classes were learnt from; none for a version without classes."""
    facts = [read_json(path) for path in (package / INSPECTION / CLASSES).glob(f"*/{FACTS}")]
    return {str(image["name"]) for one in facts for kind in ("examples", "good") for image in one[kind]}
