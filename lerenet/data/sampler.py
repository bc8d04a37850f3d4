"""Training episodes. Each derives from (seed, epoch, step) alone, so no sampler state exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lerenet.cells import View
from lerenet.errors import DataError
from lerenet.seeds import generator


@dataclass(frozen=True)
class Episode:
    """One query and its support shots of the same class; a clean image as query has an empty mask."""

    cls: str
    query: View
    support: tuple[View, ...]


@dataclass
class EpisodeSampler:
    """Draws batches of training episodes from the base classes.

    An epoch is one pass over the base images as queries (``per_epoch`` 0), or ``per_epoch`` queries.
    Supports come from another group than the query's wherever the class has one.
    """

    catalog: pd.DataFrame
    classes: Sequence[str]
    shots: int
    views: int
    batch: int
    clean_share: float
    seed: int
    per_epoch: int = 0
    per_query: int = 0  # so many different episodes of each query image; 0: new ones each time
    _queries: list[str] = field(init=False)

    def __post_init__(self) -> None:
        rows = self.catalog[self.catalog["cls"].isin(list(self.classes))]
        self._cls = dict(zip(rows["image"], rows["cls"], strict=True))
        self._group = dict(zip(rows["image"], rows["group"], strict=True))
        defects = rows[rows["kind"] == "defect"]
        self._queries = sorted(defects["image"])
        if not self._queries:
            raise DataError(
                f"no image of {', '.join(self.classes)} may be trained on",
                "import images of more parts, or leave this fold out (`grid.folds`, `--folds` of a table)",
            )
        self._pool = {str(c): sorted(part["image"]) for c, part in defects.groupby("cls")}
        clean = rows[rows["kind"] == "clean"]
        self._clean = {str(c): sorted(part["image"]) for c, part in clean.groupby("cls")}

    @property
    def images(self) -> list[str]:
        """Every image an episode can name."""
        return self._queries + [name for names in self._clean.values() for name in names]

    def class_of(self, image: str) -> str:
        """The class of one of `images`."""
        return str(self._cls[image])

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return max(1, -(-(self.per_epoch or len(self._queries)) // self.batch))

    def batch_at(self, epoch: int, step: int) -> list[Episode]:
        """The episodes of one training step, the same for the same (seed, epoch, step)."""
        order = self._order(epoch)
        rng = generator(self.seed, "train", epoch, step)
        chosen = [order[(step * self.batch + i) % len(order)] for i in range(self.batch)]
        return [self._episode(query, rng) for query in chosen]

    def _order(self, epoch: int) -> list[str]:
        total = self.per_epoch or len(self._queries)
        rng = generator(self.seed, "order", epoch)
        passes = -(-total // len(self._queries))
        return [self._queries[i] for _ in range(passes) for i in rng.permutation(len(self._queries))][:total]

    def _episode(self, query: str, rng: np.random.Generator) -> Episode:
        cls = self._cls[query]
        if self.per_query:
            rng = generator(self.seed, "pool", query, rng.integers(self.per_query))
        if rng.random() < self.clean_share and self._clean.get(cls):
            query = self._clean[cls][rng.integers(len(self._clean[cls]))]
        pool = [name for name in self._pool[cls] if self._group[name] != self._group[query]]
        pool = pool or [name for name in self._pool[cls] if name != query] or self._pool[cls]
        picked = rng.choice(len(pool), size=self.shots, replace=len(pool) < self.shots)
        views = rng.integers(self.views + 1, size=self.shots + 1)
        support = tuple((pool[i], int(view)) for i, view in zip(picked, views[1:], strict=True))
        return Episode(cls, (query, int(views[0])), support)
