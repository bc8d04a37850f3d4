"""BAM (CVPR 2022): learning what not to segment. A base learner tells where the training classes are.

The meta learner joins the query with the support's prototype and PFENet's prior and segments with an ASPP.
The ensemble weighs its answer by psi, how unlike the two images' styles are, and adds the base classes'
probability to the background.
Here: the backbone is not dilated by default, so every level is brought to one grid; it is the pipeline's own, not the
base learner's trunk; the support's highest level is of the image blacked out around the defect; the weights
of the shots fit any K and start equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from lerenet.models.batch import Support, TrainingBatch
from lerenet.models.config import register
from lerenet.models.peers.ensemble import BaseEnsemble, BaseLearner, base_probability, gram, psi
from lerenet.models.peers.parts import (
    ASPP,
    WIDTH,
    Middle,
    ResidualPair,
    classifier,
    difference,
    masked_average,
    merge,
    tile,
)
from lerenet.models.peers.similar import Similar, SimilarConfig
from lerenet.models.segmenter import Loss, Segmenter, State, expand, masks_to_grid, shots_to_grid, to_grid


class BaseAware(Segmenter):
    """A head with a base learner. Its last level is layer4; the others are the middle features, the first gives psi.

    `base` is frozen and in eval mode whatever the head's mode is; to train it, call its own `requires_grad_` and
    `train`. `config.dropout` stands in for all of the head's rates. The originals add the base learner's cross
    entropy to the loss; it has no gradient, for all of it is frozen, and is left out here.
    """

    reads = ("masked",)

    def __init__(self, config: SimilarConfig, channels: Mapping[int, int], image_size: int) -> None:
        super().__init__(channels, config.levels or (2, 3, 4), image_size)
        self.side, self.width = config.side or 25, config.width or WIDTH
        inputs = sum(self.channels[:-1] or self.channels)
        rate = 0.5 if config.dropout is None else config.dropout
        self.query_middle = Middle(inputs, self.width, rate, scaled=config.scaled)
        self.support_middle = Middle(inputs, self.width, rate, scaled=config.scaled)
        self.ensemble = BaseEnsemble()
        self.base = BaseLearner(self.channels[-1], self.side, self.width).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """As any module's, but the base learner stays in eval mode."""
        super().train(mode)
        self.base.eval()
        return self

    @property
    def base_learner(self) -> nn.Module:
        """`base`, which the training teaches before the episodes."""
        return self.base

    def styles(self, level: Tensor) -> Tensor:
        """The shots' Gram matrices: first level (B, K, c, h, w) -> (B, K, c, c)."""
        on_grid = shots_to_grid(level, self.side)
        grams: Tensor = gram(on_grid.flatten(0, 1)).unflatten(0, level.shape[:2])
        return grams

    def meta(
        self, state: State, query: list[Tensor], base_map: Tensor, weights: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The episode's own two-channel output (B, 2, side, side), and maps for a side loss.

        ``base_map`` is the base learner's map of the query, (B, 2 width, side, side); ``weights`` the shots', (B, K).
        """
        raise NotImplementedError

    def side_loss(self, maps: list[Tensor], truth: Tensor) -> Tensor:
        """Of the maps that `meta` gave, against truth (B, H, W)."""
        return truth.new_zeros(())

    def _outputs(
        self, state: State, query: list[Tensor], slot: Tensor | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Two-channel output of the ensemble, and what `meta` gives."""
        own = gram(to_grid(query[0], self.side))  # (B, c, c)
        styles = psi(own, expand(state["styles"], len(own)))  # (B, K)
        weights = self.ensemble.weigh(styles)
        with torch.no_grad():
            base_map = self.base.features(query[-1])
            chance = base_probability(self.base.classify(base_map), slot)
        meta, maps = self.meta(state, query, base_map, weights)
        return self.ensemble(meta, (weights * styles).sum(1), chance), meta, maps

    def decode(self, state: State, query: list[Tensor]) -> Tensor:
        """State and query features (B, c, h, w) a level -> logits (B, image_size, image_size)."""
        return self.enlarge(difference(self._outputs(state, query)[0]))

    def learn(self, batch: TrainingBatch, loss: Loss) -> Tensor:
        """Loss of the ensemble's output + of the meta output + the side loss; the class in `slot` does not count."""
        final, meta, maps = self._outputs(self.encode(batch.support), batch.query, batch.slot)
        both = [loss(self.enlarge(difference(two)), batch.truth) for two in (final, meta)]
        return both[0] + both[1] + self.side_loss(maps, batch.truth)


@register("bam", SimilarConfig)
class BAM(BaseAware):
    """Levels 2 and 3 are the middle features, level 4 gives the prior and feeds the base learner, level 2 psi."""

    def __init__(self, config: SimilarConfig, channels: Mapping[int, int], image_size: int) -> None:
        super().__init__(config, channels, image_size)
        self.similar = Similar(config.prior, self.side)
        self.merge = merge(2 * self.width + 1, self.width)
        self.aspp = ASPP(self.width, self.width)
        self.join = merge(5 * self.width, self.width)
        self.after = ResidualPair(self.width)
        self.classify = classifier(self.width, dropout=0.1 if config.dropout is None else config.dropout)
        for part in self.aspp.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)

    def encode(self, support: Support) -> State:
        """The K shots' prototypes (B, K, c), what the prior needs, Gram matrices."""
        shares = masks_to_grid(support.masks, self.side, "bilinear").to(
            support.levels[0].dtype
        )  # (B, K, h, w)
        levels = [level.flatten(0, 1) for level in support.levels[:-1] or support.levels]
        each = masked_average(self.support_middle(levels, self.side), shares.flatten(0, 1))  # (B K, c)
        return {
            "prototypes": each.unflatten(0, support.masks.shape[:2]),
            "styles": self.styles(support.levels[0]),
            **self.similar.keep(support),
        }

    def meta(
        self, state: State, query: list[Tensor], base_map: Tensor, weights: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Prototypes and priors under the shots' weights, beside the query; no maps for a side loss."""
        x = self.query_middle(query[:-1] or query, self.side)  # (B, c, h, w)
        prototype = (expand(state["prototypes"], len(x)) * weights[:, :, None]).sum(1)  # (B, c)
        each = self.similar.each(state, query)  # (B, K, h, w)
        near = (each * weights[:, :, None, None]).sum(1, keepdim=True)
        x = self.merge(torch.cat([x, tile(prototype.to(x.dtype), x), near.to(x.dtype)], dim=1))
        return self.classify(self.after(self.join(self.aspp(x)))), []
