"""PFENet (TPAMI 2020): a prototype and a training-free prior guide the query at several scales.

The prior tells how alike each query place is to the most similar place of the masked support; feature
enrichment joins it with the prototype and the query at four bins and lets fine guide coarse.
Here: the backbone is not dilated by default, so every level is brought to one grid; the bins follow that grid
(25, 13, 7, 4, not 60, 30, 15, 8); the support's highest level is of the image blacked out around the defect.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lerenet.models.batch import Support, TrainingBatch
from lerenet.models.config import register
from lerenet.models.peers.parts import (
    FEM,
    WIDTH,
    Middle,
    bins_of,
    classifier,
    difference,
    masked_average,
    tile,
)
from lerenet.models.peers.similar import PeerConfig, Similar, SimilarConfig
from lerenet.models.segmenter import Loss, Segmenter, State, expand, masks_to_grid


class Pyramid(Segmenter):
    """What PFENet and ASGNet share: the enrichment at four bins, the output, a side loss for each bin.

    `config.dropout` stands in for both rates: 0.5 after the reduction, 0.1 before each classifier's last layer.
    """

    def __init__(
        self, config: PeerConfig, channels: Mapping[int, int], levels: tuple[int, ...], image_size: int
    ) -> None:
        super().__init__(channels, config.levels or levels, image_size)
        self.side, self.width = config.side or 25, config.width or WIDTH
        self.dropout, last = (0.5, 0.1) if config.dropout is None else (config.dropout, config.dropout)
        self.fem = FEM(2 * self.width + 1, bins_of(self.side), self.width, last)
        self.classify = classifier(self.width, dropout=last)

    def guided(self, state: State, query: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Query (B, c, side, side), what guides it (B, c, side, side), and a map (B, 1, side, side)."""
        raise NotImplementedError

    def _outputs(self, state: State, query: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Two-channel output (B, 2, side, side), and those of the bins on their own grids."""
        merged, side = self.fem(*self.guided(state, query))
        return self.classify(merged), side

    def decode(self, state: State, query: list[Tensor]) -> Tensor:
        """State and query features (B, c, h, w) a level -> logits (B, image_size, image_size)."""
        return self.enlarge(difference(self._outputs(state, query)[0]))

    def learn(self, batch: TrainingBatch, loss: Loss) -> Tensor:
        """Loss of the output + the mean over the bins of the losses of theirs."""
        main, side = self._outputs(self.encode(batch.support), batch.query)
        bins = torch.stack([loss(self.enlarge(difference(two)), batch.truth) for two in side])
        return loss(self.enlarge(difference(main)), batch.truth) + bins.mean()


@register("pfenet", SimilarConfig)
class PFENet(Pyramid):
    """Levels 2 and 3 are the middle features, level 4 gives the prior (the last of `levels`; one alone is both)."""

    reads = ("masked",)

    def __init__(self, config: SimilarConfig, channels: Mapping[int, int], image_size: int) -> None:
        super().__init__(config, channels, (2, 3, 4), image_size)
        inputs = sum(self.channels[:-1] or self.channels)
        self.query_middle = Middle(inputs, self.width, self.dropout, scaled=config.scaled)
        self.support_middle = Middle(inputs, self.width, self.dropout, scaled=config.scaled)
        self.similar = Similar(config.prior, self.side)

    def encode(self, support: Support) -> State:
        """Mean of the K prototypes, (B, c), and what the prior needs."""
        levels, masks = support.levels, support.masks
        shares = masks_to_grid(masks, self.side, "bilinear").to(levels[0].dtype)  # (B, K, h, w)
        middle = [level.flatten(0, 1) for level in levels[:-1] or levels]
        each = masked_average(self.support_middle(middle, self.side), shares.flatten(0, 1))  # (B K, c)
        return {"prototype": each.unflatten(0, masks.shape[:2]).mean(1), **self.similar.keep(support)}

    def guided(self, state: State, query: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The query's middle features, the prototype at every place, the prior."""
        x = self.query_middle(query[:-1] or query, self.side)  # (B, c, h, w)
        near = self.similar(state, query)  # (B, 1, h, w)
        return x, tile(expand(state["prototype"], len(x)), x), near
