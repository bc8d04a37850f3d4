"""Features of a backbone that is being trained."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from lerenet.cells import View
from lerenet.data.augment import Pixels, load_plain
from lerenet.features.store import BATCH, FeatureStore, extract, normal_of, to_batch
from lerenet.models.backbones.factory import Backbone
from lerenet.params import Params


class LiveSource:
    """Features of some catalogue rows under a backbone that is being trained, held in memory.

    Args:
        normals: those of ``rows`` whose defect-free images may stand beside others; None: all.
    """

    def __init__(
        self, data: Path, rows: pd.DataFrame, params: Params, normals: pd.DataFrame | None = None
    ) -> None:
        plain = [load_plain(data, row, params.image_size) for _, row in rows.iterrows()]
        self._pictures = [picture for picture, _ in plain]
        self._truth = torch.stack([torch.from_numpy(marks.copy()) for _, marks in plain]).float()
        self._at = {name: i for i, name in enumerate(rows["image"])}
        self._rows, self._normals = rows, rows if normals is None else normals
        self._described: dict[str, int] = {}
        self._masked: dict[int, Tensor] = {}
        self._levels: dict[int, Tensor] = {}
        self._precision = params.precision

    def refresh(
        self, backbone: Backbone, masked: bool = False, classes: Collection[str] | None = None
    ) -> None:
        """Recompute the features with the backbone as it is now, in eval mode; of some ``classes`` or of all.

        What is not recomputed has no features until it is.
        """
        backbone.eval()
        wanted = [classes is None or cls in classes for cls in self._rows["cls"]]
        places = [place for place, kept in enumerate(wanted) if kept]
        self._described = {str(self._rows["image"].iloc[place]): i for i, place in enumerate(places)}
        pictures = [self._pictures[place] for place in places]
        self._levels = self._extract(backbone, pictures)
        if masked:
            both = zip(pictures, (self._truth[places] > 0).numpy(), strict=True)
            self._masked = self._extract(backbone, [picture * mask[..., None] for picture, mask in both])

    def _extract(self, backbone: Backbone, pictures: Sequence[Pixels]) -> dict[int, Tensor]:
        parts = [
            extract(backbone, pictures[i : i + BATCH], self._precision)
            for i in range(0, len(pictures), BATCH)
        ]
        return {level: torch.cat([p[i] for p in parts]) for i, level in enumerate(backbone.levels)}

    def features(self, views: Sequence[View], levels: Sequence[int], masked: bool = False) -> list[Tensor]:
        """(n, c, h, w) for each of ``levels``; every view must be 0."""
        index = [self._described[name] for name, _ in views]
        kept = self._masked if masked else self._levels
        return [kept[level][index] for level in levels]

    def normal(self, view: View) -> View | None:
        """A defect-free image of the same class, as `FeatureStore.normal`."""
        return normal_of(self._rows, self._normals, view)

    def masks(self, views: Sequence[View]) -> Tensor:
        """(n, H, W) in {0, 1}."""
        return self.truth(views).clamp_min(0)

    def truth(self, views: Sequence[View]) -> Tensor:
        """Masks, negative where a pixel counts as nothing, as `FeatureStore.truth`."""
        return self._truth[[self._at[name] for name, _ in views]]

    def pictures(self, views: Sequence[View]) -> Tensor:
        """(n, 3, H, W) in [0, 1]."""
        return to_batch([self._pictures[self._at[name]] for name, _ in views], torch.device("cpu"))


class Passing:
    """Features with their gradient: each batch of pictures goes through a backbone that is being trained.

    Args:
        store: the pictures and masks; its ``backbone`` is the one trained.
        device: where the backbone is.
    """

    def __init__(self, store: FeatureStore, device: torch.device) -> None:
        self.store, self.device = store, device
        self.normal, self.masks, self.pictures = store.normal, store.masks, store.pictures

    def features(self, views: Sequence[View], levels: Sequence[int], masked: bool = False) -> list[Tensor]:
        """(n, c, h, w) for each of ``levels``, as the backbone is now."""
        pictures = self.store.pictures(views)
        if masked:
            pictures = pictures * self.store.masks(views)[:, None]
        placed = pictures.to(self.device, memory_format=torch.channels_last)
        return self.store.backbone.features(placed, levels)
