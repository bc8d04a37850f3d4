"""Relations of a frozen backbone's features, kept: the same pair of images is compared once.

All that a step of the default head computes apart from a few small convolutions depends on the
features alone (`Segmenter.relate`). Training draws its episodes from a pool (``train.episodes_per_query``) and is
validated on frozen ones, so after the first pass every episode's relations are there already.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lerenet.cells import View
from lerenet.device import autocast
from lerenet.models.batch import FeatureSource, assemble
from lerenet.models.segmenter import Segmenter, State

ROOM = 2**30  # bytes kept; what is over is computed anew each time


class RelationCache:
    """`Segmenter.relate` of episodes, each computed alone: no result depends on what it was batched with.

    Args:
        head: its class has ``relational`` set.
        source: features and masks; they must not change.
        room: most bytes to keep.
    """

    def __init__(
        self, head: Segmenter, source: FeatureSource, device: torch.device, precision: str, room: int = ROOM
    ) -> None:
        self.head, self.source, self.device, self.precision = head, source, device, precision
        self.room = room
        self._kept: dict[tuple[View, ...], State] = {}

    def __call__(self, supports: Sequence[Sequence[View]], queries: Sequence[View]) -> State:
        """The relations of a batch of episodes, each entry stacked along the batch."""
        states = [self._one(tuple(support), query) for support, query in zip(supports, queries, strict=True)]
        return {name: torch.cat([state[name] for state in states]) for name in states[0]}

    def _one(self, support: tuple[View, ...], query: View) -> State:
        key = (query, *support)
        if key in self._kept:
            return self._kept[key]
        batch = assemble(self.source, [support], [query], self.head, self.device)
        with torch.no_grad(), autocast(self.device, self.precision):
            state = self.head.relate(self.head.encode(batch.support), batch.query)
        size = sum(value.numel() * value.element_size() for value in state.values())
        if size <= self.room:
            self.room -= size
            self._kept[key] = state
        return state
