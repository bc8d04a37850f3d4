"""What several stages read: the data, the frozen episodes, digests for lineage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from lerenet import layout
from lerenet.data.catalog import load_catalog
from lerenet.data.folds import Split, load_folds, trained_on
from lerenet.evaluation.metrics import check_guards
from lerenet.models.config import check_networks
from lerenet.params import Params, load_params


def check_settings(params: Params) -> None:
    """What `load_params` can't tell: whether each recipe's network knows its keys, and the gate its metrics.

    Raises:
        ParamsError: see `check_networks` and `check_guards`.
    """
    check_networks(params)
    check_guards(params.gate.max_drop)


@dataclass(frozen=True)
class Inputs:
    """Settings, catalogue, splits and frozen episodes."""

    params: Params
    catalog: pd.DataFrame
    folds: dict[str, Any]
    episodes: pd.DataFrame

    @classmethod
    def load(cls) -> Inputs:
        """Read them from the stages before; every recipe's network is checked.

        Raises:
            ParamsError: see `load_params` and `check_settings`.
        """
        params = load_params(layout.PARAMS)
        check_settings(params)
        folds, episodes = load_folds(layout.FOLDS)
        return cls(params, load_catalog(layout.CATALOG), folds, episodes)

    def split(self, name: str) -> Split:
        """The classes of a split."""
        classes: Split = self.folds["splits"][name]
        return classes

    def trained_on(self, name: str) -> pd.DataFrame:
        """Rows of the catalogue that training on a split may see, as far as groups are concerned."""
        return trained_on(self.catalog, self.split(name))

    def chosen(self, split: str, role: str, **match: object) -> pd.DataFrame:
        """The frozen episodes of a split and role whose columns equal ``match``."""
        rows = self.episodes
        keep = (rows["split"] == split) & (rows["role"] == role)
        for column, value in match.items():
            keep &= rows[column] == value
        return rows[keep].reset_index(drop=True)

    def datasets(self) -> dict[str, str]:
        """Digests of data and episodes, by name."""
        return {"data": layout.data_md5()[:36], "episodes": self.folds["digest"]}
