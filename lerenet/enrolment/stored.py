"""The material of a class of the catalogue, from the cache of features; and by what code it is learnt from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from lerenet.data.tiles import SIDE, tiling
from lerenet.enrolment.material import Material, places_of
from lerenet.features.store import FeatureStore
from lerenet.files import sha256_file

AT_ONCE = 32
ROOMS = ("enrolment", "evaluation", "features", "models", "data")


def material_of(store: FeatureStore, rows: pd.DataFrame, levels: Sequence[int]) -> Material:
    """Described images of one class, in the order of its ``rows``; the store has been filled for it.

    Args:
        rows: of the catalogue, or squares of its images (`lerenet.data.tiles.tiled`), those of an image together.
    """
    device = store.backbone.mean.device
    parts: list[Tensor] = []
    for start in range(0, len(rows), AT_ONCE):
        some = [(str(name), 0) for name in rows["image"].iloc[start : start + AT_ONCE]]
        parts.append(places_of(store.features(some, levels)).half())
    pictures, marks, tilings, first = [], [], [], []
    size, place = store.params.image_size, 0
    while place < len(rows):
        row = rows.iloc[place]
        how = tiling(row["height"], row["width"], int(row.get(SIDE, 0)), size)
        views = [(str(name), 0) for name in rows["image"].iloc[place : place + len(how.corners)]]
        squares = (store.pictures(views) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        pictures.append(how.joined(squares).to(device))
        marks.append(how.joined(store.truth(views).to(torch.int8)).to(device))
        tilings.append(how)
        first.append(place)
        place += len(views)
    whole = rows.iloc[first]
    groups, defect = whole["group"].to_numpy(str), (whole["kind"] == "defect").to_numpy(bool)
    return Material(torch.cat(parts).to(device), pictures, marks, tilings, groups, defect)


def code_digest(*more: str) -> str:
    """SHA-256 of the code that a class is learnt by: what is kept by it is made anew when that changes.

    Args:
        more: rooms of the package beside.
    """
    package = Path(__file__).parents[1]
    files = (path for room in (*ROOMS, *more) for path in sorted((package / room).rglob("*.py")))
    return hashlib.sha256("".join(map(sha256_file, files)).encode()).hexdigest()
