"""The material of a class of the catalogue, from the cache of features; and by what code it is learnt from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from lerenet.enrolment.material import Material, places_of
from lerenet.features.store import FeatureStore
from lerenet.files import sha256_file

AT_ONCE = 32
ROOMS = ("enrolment", "evaluation", "features", "models", "data")


def material_of(store: FeatureStore, rows: pd.DataFrame, levels: Sequence[int]) -> Material:
    """Described images of one class, in the order of its catalogue ``rows``; the store has been filled for it."""
    views = [(str(name), 0) for name in rows["image"]]
    device = store.backbone.mean.device
    parts: dict[str, list[Tensor]] = {"described": [], "pictures": [], "masks": []}
    for start in range(0, len(views), AT_ONCE):
        some = views[start : start + AT_ONCE]
        parts["described"].append(places_of(store.features(some, levels)).half())
        parts["pictures"].append((store.pictures(some) * 255).round().to(torch.uint8).permute(0, 2, 3, 1))
        parts["masks"].append(store.masks(some) > 0.5)
    described, pictures, masks = (torch.cat(part).to(device) for part in parts.values())
    groups, defect = rows["group"].to_numpy(str), (rows["kind"] == "defect").to_numpy(bool)
    return Material(described, pictures, masks, groups, defect)


def code_digest(*more: str) -> str:
    """SHA-256 of the code that a class is learnt by: what is kept by it is made anew when that changes.

    Args:
        more: rooms of the package beside.
    """
    package = Path(__file__).parents[1]
    files = (path for room in (*ROOMS, *more) for path in sorted((package / room).rglob("*.py")))
    return hashlib.sha256("".join(map(sha256_file, files)).encode()).hexdigest()
