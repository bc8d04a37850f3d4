"""The data and settings that everything is measured on."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from lerenet import layout
from lerenet.data.cataloguing import build_catalog
from lerenet.data.folds import Split, make_episodes, make_splits
from lerenet.data.sampler import EpisodeSampler
from lerenet.errors import ParamsError
from lerenet.features.store import FeatureStore
from lerenet.models import backbone_for, create_model
from lerenet.models.backbones.factory import Backbone
from lerenet.models.config import NetworkConfig, recipe_network
from lerenet.models.segmenter import Segmenter
from lerenet.params import Params, TrainSettings, load_params
from lerenet.progress import progress

DEVICE = torch.device("cpu")


@dataclass(frozen=True)
class Project:
    """One fold of the data of a folder, one recipe, one backbone with its initial weights."""

    params: Params
    catalog: pd.DataFrame
    fold: str
    split: Split
    episodes: pd.DataFrame
    recipe: str
    backbone: str
    init: str

    @classmethod
    def load(cls, fold: str, recipe: str, backbone: str, init: str) -> Project:
        """Index ``data/`` and draw the frozen episodes of the fold; nothing is written.

        Raises:
            ParamsError: no such fold or recipe.
        """
        params = load_params(layout.PARAMS)
        with tempfile.TemporaryDirectory() as folder:
            catalog = build_catalog(layout.DATA, Path(folder) / "catalog.parquet")
        splits = make_splits(catalog, params.episodes, params.seed)
        for name, known in ((fold, splits), (recipe, params.recipes)):
            if name not in known:
                raise ParamsError(f"no fold or recipe {name!r}", f"known: {', '.join(known)}")
        episodes = make_episodes(catalog, {fold: splits[fold]}, params.episodes, params.seed)
        return cls(params, catalog, fold, splits[fold], episodes, recipe, backbone, init or params.init)

    @property
    def settings(self) -> TrainSettings:
        """Training settings of the recipe."""
        return self.params.train_settings(self.recipe)

    @property
    def model(self) -> NetworkConfig:
        """The recipe's model."""
        return recipe_network(self.params, self.recipe)

    def chosen(self, role: str, shots: int) -> pd.DataFrame:
        """Frozen episodes with a defect in the query, supports of another group."""
        rows = self.episodes[(self.episodes["role"] == role) & (self.episodes["protocol"] == "groups")]
        rows = rows[(rows["kind"] == "defect") & (rows["shots"] == shots)]
        return rows.reset_index(drop=True)

    def new_backbone(self, model: NetworkConfig) -> Backbone:
        """The backbone with its initial weights and the turns and stride that ``model`` reads, in eval mode."""
        return backbone_for(model, self.backbone, self.init, self.params.levels).eval()

    def new_head(self, model: NetworkConfig, backbone: Backbone) -> Segmenter:
        """A head on that backbone, with the same initial weights every time."""
        torch.manual_seed(self.params.seed)
        channels = dict(zip(backbone.levels, backbone.channels, strict=True))
        return create_model(model, channels, self.params.image_size)

    def sampler(self, batch: int, clean_share: float, per_epoch: int = 0) -> EpisodeSampler:
        """1-shot training episodes of the fold's base classes."""
        return EpisodeSampler(
            self.catalog, self.split["base"], 1, self.params.views.count, batch, clean_share, self.params.seed,
            per_epoch, self.settings.episodes_per_query,
        )  # fmt: skip

    def store(
        self,
        backbone: Backbone,
        classes: list[str],
        views: bool,
        pictures: bool = False,
        masked: bool = False,
    ) -> FeatureStore:
        """Features, masks and pictures (of augmented views only if asked for); what is missing is computed."""
        store = FeatureStore(backbone, self.catalog, self.params, layout.DATA)
        with progress("features", store.size(classes, augmented=views, masked=masked)) as store.tick:
            store.ensure(classes, augmented=views, pictures=pictures, masked=masked)
        return store


def photos_of(cls: str) -> list[Path]:
    """A class's photos in ``data/``, with a defect, then those of good parts, of which there may be none."""
    return [path for kind in ("Images", "Nd") for path in sorted(layout.DATA.glob(f"{cls}/{kind}/*"))]
