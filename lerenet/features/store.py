"""The cache of frozen backbone features: computed once, memory-mapped, shared by every head.

A *unit* is one class under one backbone: its images (view 0), or their augmented views 1..V. Its
folder is named by a digest of everything that would make it stale: backbone weights, image size,
turns, stride, view settings, seed, precision, and the bytes of every image and mask. Each level is one array
(images, views, c, h, w) of float16 beside the masks (images, views, H, W) and pictures, so a new level, class or
head computes only what is missing. Beside each array stands its SHA-256: one that was cut, or changed, is made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lerenet.cells import View
from lerenet.data.augment import Pixels, load_views
from lerenet.data.scaling import Marks
from lerenet.device import autocast, in_bf16
from lerenet.errors import TrainingError
from lerenet.files import atomic_path, is_whole, require_space, write_digest
from lerenet.layout import CACHE
from lerenet.models.backbones.factory import Backbone
from lerenet.params import Params

log = logging.getLogger(__name__)

BATCH = 16


def fingerprint(module: torch.nn.Module) -> str:
    """Hex SHA-256 over the names and bytes of a module's weights."""
    hasher = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        hasher.update(name.encode())
        hasher.update(value.detach().cpu().contiguous().numpy().tobytes())
    return hasher.hexdigest()


def normal_of(rows: pd.DataFrame, normals: pd.DataFrame, view: View) -> View | None:
    """The defect-free image among ``normals`` that stands beside ``view``, of its class and never of its group."""
    own = rows[rows["image"] == view[0]].iloc[0]
    there = (normals["cls"] == own["cls"]) & (normals["kind"] == "clean") & (normals["group"] != own["group"])
    clean = sorted(normals.loc[there, "image"])
    return (clean[crc32(f"{view[0]} {view[1]}".encode()) % len(clean)], 0) if clean else None


def to_batch(pictures: Sequence[Pixels], device: torch.device) -> Tensor:
    """Stack uint8 (H, W, 3) pictures into (N, 3, H, W) in [0, 1], channels last."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return (stacked.to(device).float() / 255).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def extract(backbone: Backbone, pictures: Sequence[Pixels], precision: str) -> list[Tensor]:
    """Features of one batch of pictures, one float32 (N, c, h, w) a level, on the CPU.

    Raises:
        TrainingError: when a feature is not finite.
    """
    device = next(backbone.parameters()).device
    with autocast(device, precision):
        levels = backbone(to_batch(pictures, device))
    features = [level.float().cpu() for level in levels]
    if not all(bool(torch.isfinite(level).all()) for level in features):
        raise TrainingError("the backbone gives features that are not finite", "check its weights file")
    return features


class FeatureStore:
    """Features, masks and pictures of (image, view) pairs of one backbone.

    Args:
        backbone: in eval mode; its ``levels`` are what is cached.
        catalog: the data catalogue; rows name the files.
        tick: called with the number of (image, view) pairs done, for a progress bar.
        normals: the rows whose defect-free images may stand beside others (`normal`); None: the catalogue's.
    """

    def __init__(
        self,
        backbone: Backbone,
        catalog: pd.DataFrame,
        params: Params,
        data: Path,
        cache: Path = CACHE / "features",
        tick: Callable[[int], None] = lambda done: None,
        normals: pd.DataFrame | None = None,
    ) -> None:
        self.backbone, self.catalog, self.params = backbone, catalog, params
        self.normals = catalog if normals is None else normals
        self.data, self.cache, self.tick = data, cache, tick
        self.weights = fingerprint(backbone)
        self._rows = {cls: part.sort_values("image") for cls, part in catalog.groupby("cls")}
        self._where = {
            name: (str(cls), i) for cls, part in self._rows.items() for i, name in enumerate(part["image"])
        }
        self._open: dict[Path, NDArray[Any]] = {}
        self._checked: set[Path] = set()
        self._folders: dict[tuple[str, bool, bool], Path] = {}

    def ensure(
        self, classes: Iterable[str], augmented: bool = False, pictures: bool = False, masked: bool = False
    ) -> None:
        """Compute what is missing for ``classes``: view 0, and views 1..V when ``augmented``.

        View 0 comes with its pictures, the others only with ``pictures``. With ``masked`` also the features
        of the images with all but the defect blacked out.
        """
        for cls in classes:
            for views in (False, True) if augmented and self.params.views.count else (False,):
                self._ensure_unit(cls, views, pictures or not views, masked=False)
                if masked:
                    self._ensure_unit(cls, views, pictures=False, masked=True)

    def size(self, classes: Iterable[str], augmented: bool = False, masked: bool = False) -> int:
        """How many (image, view) pairs `ensure` goes through; with ``masked`` each twice."""
        pairs = sum(len(self._rows[cls]) for cls in classes) * (1 + augmented * self.params.views.count)
        return pairs * (1 + masked)

    def features(self, views: Sequence[View], levels: Sequence[int], masked: bool = False) -> list[Tensor]:
        """One (n, c, h, w) float32 tensor for each of ``levels``, for (image, view) pairs."""
        return [self._gather(f"level{level}", views, masked).float() for level in levels]

    def normal(self, view: View) -> View | None:
        """A defect-free image of the same class, always the same one for an image; None where there is none."""
        cls, _ = self._where[view[0]]
        return normal_of(self._rows[cls], self.normals, view)

    def masks(self, views: Sequence[View]) -> Tensor:
        """(n, H, W) float32 masks in {0, 1}."""
        return self.truth(views).clamp_min(0)

    def truth(self, views: Sequence[View]) -> Tensor:
        """(n, H, W) float32 masks in {0, 1}, and negative where a pixel counts as nothing."""
        return self._gather("masks", views).float()

    def pictures(self, views: Sequence[View]) -> Tensor:
        """(n, 3, H, W) float32 pictures in [0, 1]."""
        return self._gather("pictures", views).permute(0, 3, 1, 2).float() / 255

    def unit(self, cls: str, augmented: bool, masked: bool = False) -> Path:
        """The folder of one class's view 0 or augmented views, of the whole images or of their defects alone."""
        if (cls, augmented, masked) in self._folders:
            return self._folders[cls, augmented, masked]
        rows = self._rows[cls]
        settings = self.params
        key = {
            "weights": self.weights,
            "turns": self.backbone.turns,
            "size": settings.image_size,
            "files": rows[["image", "sha256", "mask_sha256"]].to_numpy().tolist(),
            "views": {**settings.views.model_dump(), "seed": settings.seed} if augmented else None,
        }
        key |= {"stride": self.backbone.stride} if self.backbone.stride else {}
        key |= {"masked": True} if masked else {}
        key |= {"precision": "bf16"} if in_bf16(self.backbone.mean.device, settings.precision) else {}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self._folders[cls, augmented, masked] = self.cache / digest[:24]
        return self._folders[cls, augmented, masked]

    def _ensure_unit(self, cls: str, augmented: bool, pictures: bool, masked: bool) -> None:
        folder = self.unit(cls, augmented, masked)
        wanted = ["masks", *(f"level{level}" for level in self.backbone.levels)]
        wanted += ["pictures"] if pictures else []
        missing = [name for name in wanted if not self._whole(folder / f"{name}.npy")]
        rows = self._rows[cls]
        views = range(1, self.params.views.count + 1) if augmented else range(1)
        if not missing:
            os.utime(folder)  # when it was used last
            self.tick(len(rows) * len(views))
            return
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, NDArray[Any]] = {}
        for start, batch in self._batches(rows, views):
            if masked:
                batch = [(picture * (marks > 0)[..., None], marks) for picture, marks in batch]
            computed = self._compute(batch, missing)
            for name, value in computed.items():
                if name not in arrays:
                    shape = (len(rows) * len(views), *value.shape[1:])
                    require_space(folder, int(np.prod(shape)) * value.dtype.itemsize)
                    arrays[name] = np.empty(shape, value.dtype)
                arrays[name][start : start + len(batch)] = value
            self.tick(len(batch))
        for name, array in arrays.items():
            path = folder / f"{name}.npy"
            with atomic_path(path) as temporary:
                np.save(temporary, array.reshape(len(rows), len(views), *array.shape[1:]))
            write_digest(path)
            self._checked.add(path)

    def _whole(self, path: Path) -> bool:
        """Whether an array is there as it was written; read once."""
        if path not in self._checked and path.is_file():
            if not is_whole(path):
                log.warning("%s: not the file that was written; it is made anew", path)
                return False
            self._checked.add(path)
        return path in self._checked

    def _batches(self, rows: pd.DataFrame, views: range) -> Iterator[tuple[int, list[tuple[Pixels, Marks]]]]:
        start, pending = 0, []
        for _, row in rows.iterrows():
            params = self.params
            pending += load_views(self.data, row, params.image_size, params.views, params.seed, views)
            while len(pending) >= BATCH:
                yield start, pending[:BATCH]
                start, pending = start + BATCH, pending[BATCH:]
        if pending:
            yield start, pending

    def _compute(self, batch: list[tuple[Pixels, Marks]], names: list[str]) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {}
        if "masks" in names:
            arrays["masks"] = np.stack([marks for _, marks in batch])
        if "pictures" in names:
            arrays["pictures"] = np.stack([picture for picture, _ in batch])
        if any(name.startswith("level") for name in names):
            levels = extract(self.backbone, [picture for picture, _ in batch], self.params.precision)
            for level, value in zip(self.backbone.levels, levels, strict=True):
                if f"level{level}" in names:
                    arrays[f"level{level}"] = value.half().numpy()
        return arrays

    def _gather(self, name: str, views: Sequence[View], masked: bool = False) -> Tensor:
        parts = []
        for image, view in views:
            cls, index = self._where[image]
            path = self.unit(cls, view > 0, masked) / f"{name}.npy"
            if path not in self._open:
                self._open[path] = np.load(path, mmap_mode="r")
            parts.append(self._open[path][index, max(view - 1, 0)])
        return torch.from_numpy(np.stack(parts))
