"""Champion and challenger on every image that the challenger was given, each image left out of both.

A group keeps its fold for ever, so neither has seen the part that it is asked about, the newest images included. A
class that the champion does not know it leaves unmarked and uncalled.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lerenet import layout
from lerenet.data.catalog import load_catalog
from lerenet.data.tiles import SOURCE, tiled
from lerenet.device import pick_device
from lerenet.enrolment.enrolled import CLASSES, FACTS, NETWORK, READINGS, load_enrolled
from lerenet.enrolment.material import Material
from lerenet.enrolment.stored import code_digest, material_of
from lerenet.enrolment.variants import asked
from lerenet.enrolment.verdicts import left_out
from lerenet.errors import DataError, PromotionError
from lerenet.features.store import FeatureStore
from lerenet.files import atomic_path, is_whole, read_json, sha256_file, write_digest
from lerenet.models.serialization import load_network
from lerenet.params import Params
from lerenet.registry.registered import INSPECTED, INSPECTION, PARAMS

OTHER_CODE = (
    "if it was registered by code that kept classes in another way, go on with the new version: "
    "`lerenet promote VERSION --force --reason WHY`"
)


def challenger_rows(package: Path) -> pd.DataFrame:
    """What a version says of each image that it was given (`lerenet.enrolment.verdicts.left_out`).

    Raises:
        PromotionError: the version knows no class: it was registered before versions did.
    """
    path = package / INSPECTION / INSPECTED
    if not path.is_file():
        raise PromotionError(
            "the version knows no class to inspect for", "run the retraining: it registers one that does"
        )
    return pd.read_parquet(path)


def champion_rows(package: Path, challenger: Path, params: Params) -> pd.DataFrame:
    """What the champion in ``package`` says of the images of the ``challenger``'s package.

    A class that both hold alike is not read again, and what was read is kept. Images of parts that the champion knows
    in every fold are left out. Verdicts are by the shares of false calls and reviews that the challenger was given,
    whatever the champion's were.
    """
    rows = challenger_rows(challenger)
    parts = []
    for cls, own in rows.groupby("cls"):
        facts = [folder / INSPECTION / CLASSES / str(cls) / FACTS for folder in (package, challenger)]
        if not facts[0].is_file():
            parts.append(unknown(own))
        elif read_json(facts[0]) == read_json(facts[1]):
            parts.append(own)
        elif _alike(*map(read_json, facts)):
            readings = pd.read_parquet(facts[0].with_name(READINGS))
            parts.append(left_out(readings, *_given_shares(challenger)).assign(cls=cls))
        else:
            shares = _given_shares(challenger)
            parts.append(_asked(package, facts, str(cls), own["image"].tolist(), params, shares))
    return pd.concat(parts, ignore_index=True)


def _alike(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """Whether two classes were learnt from the same images: how they are read, left out, stands in the version."""
    same = ("network", "image_size", "side", "part_folds", "examples", "good")
    return all(one.get(name) == two.get(name) for name in same)


def _given_shares(package: Path) -> tuple[float, float]:
    """Shares of false calls and of reviews that a version's verdicts are by."""
    settings = read_json(package / PARAMS)["enrolment"]
    return settings["false_calls"], settings["reviews"]


def material(package: Path, cls: str, images: Sequence[str], params: Params) -> Material:
    """Images of a class, as they lie in ``data/``, as a version describes them: its network, the class's scale."""
    loaded = load_network(package / INSPECTION / NETWORK)
    sized = params.model_copy(update={"image_size": loaded.image_size})
    facts = package / INSPECTION / CLASSES / cls / FACTS
    side = int(read_json(facts).get("side", 0)) if facts.is_file() else 0
    catalog = load_catalog(layout.CATALOG)
    squares = tiled(catalog[catalog["cls"] == cls], {cls: side}, loaded.image_size)
    store = FeatureStore(loaded.network.backbone.to(pick_device()), squares, sized, layout.DATA)
    store.ensure([cls])
    own = dict(iter(squares.groupby(SOURCE)))
    return material_of(store, pd.concat([own[name] for name in images]), loaded.network.head.levels)


def _asked(
    package: Path,
    facts: Sequence[Path],
    cls: str,
    images: list[str],
    params: Params,
    shares: tuple[float, float],
) -> pd.DataFrame:
    """What a class of the champion says of the challenger's images; ``facts`` of both, ``shares`` for the verdicts.

    Raises:
        PromotionError: an image, or its mask, is not in the data as the challenger was given it.
    """
    said = [sha256_file(path) for path in (*facts, layout.CATALOG)]
    said += [code_digest(), *map(str, shares)]
    kept = (
        layout.CACHE / "champion" / f"{cls}-{hashlib.sha256(''.join(said).encode()).hexdigest()[:24]}.parquet"
    )
    if not is_whole(kept):
        try:
            enrolled = load_enrolled(facts[0].parent)
        except DataError as error:
            raise PromotionError(f"the champion can't be compared: {error.what}", OTHER_CODE) from error
        _require_same(facts[1])
        described = material(package, cls, images, params)
        own = pd.read_parquet(facts[0].with_name(READINGS))
        rows = asked(enrolled, own, described, *shares)
        named = rows.assign(image=[images[place] for place in rows.pop("place")], cls=cls)
        with atomic_path(kept) as temporary:
            named.to_parquet(temporary, index=False)
        write_digest(kept)
    os.utime(kept)  # when it was used last
    return pd.read_parquet(kept)


def unknown(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as a model has them that does not know the class: nothing is marked or called."""
    fn, tn = rows["tp"] + rows["fn"], rows["fp"] + rows["tn"]
    return rows.assign(tp=0, fp=0, fn=fn, tn=tn, overlap=0.0, alike=0.0, score=0.0, verdict="OK", reader="")


def new_to(champion: Path, challenger: Path) -> set[str]:
    """Names of the challenger's images that the champion was not given: with this picture and this mask."""
    return {name for name, *_ in given(challenger) - given(champion)}


def given(package: Path) -> set[tuple[str, str, tuple[str, ...]]]:
    """Name, SHA-256 and masks' SHA-256 of every image that a version's classes were learnt from."""
    return {image for path in (package / INSPECTION / CLASSES).glob(f"*/{FACTS}") for image in _images(path)}


def _images(facts: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    read = read_json(facts)
    images = (image for kind in ("examples", "good") for image in read[kind])
    return [(str(image["name"]), str(image["sha256"]), tuple(image["masks"])) for image in images]


def _require_same(facts: Path) -> None:
    catalog = load_catalog(layout.CATALOG)
    now = {row.image: (row.sha256, row.mask_sha256 or "") for row in catalog.itertuples()}
    for name, digest, masks in _images(facts):
        if now.get(name) != (digest, "".join(masks)):
            raise PromotionError(
                f"{name}: is not in the data as the version was given it",
                "run the retraining: it registers a version of the data as they are",
            )
