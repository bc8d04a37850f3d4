"""What needs no training: matching of descriptors, one prototype, and the two trivial answers.

These are the floors that every table carries; `matching` is also the inspector's instant answer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from lerenet.models.batch import Support
from lerenet.models.config import FeatureConfig, NetworkConfig, ShotFusion, register
from lerenet.models.descriptors import centred, relate, stacked
from lerenet.models.segmenter import (
    Segmenter,
    State,
    expand,
    masks_to_grid,
    shots_to_grid,
    to_grid,
    weighted_mean,
)
from lerenet.params import Positive

LEVELS = (2, 3)
SIDE = 25  # of the grid


class PrototypeConfig(FeatureConfig):
    """``levels`` 2 and 3 unless others are given, on a grid of 25 x 25."""

    side: Positive | None = None


class MatchingConfig(PrototypeConfig):
    """How the maps of several shots are joined: their mean, or the nearest of all shots' descriptors."""

    shot_fusion: ShotFusion = "concat"


@register("matching", MatchingConfig)
class Matching(Segmenter):
    """Foreground where a query descriptor is more like the support's foreground than its background."""

    def __init__(self, config: PrototypeConfig, channels: Mapping[int, int], image_size: int) -> None:
        super().__init__(channels, config.levels or LEVELS, image_size)
        self.side = config.side or SIDE
        self.concat = isinstance(config, MatchingConfig) and config.shot_fusion == "concat"

    def encode(self, support: Support) -> State:
        """Keep every support descriptor, (B, K, c, l), and the masks' shares, (B, K, l)."""
        levels = [shots_to_grid(level, self.side).flatten(3) for level in support.levels]  # (B, K, c_i, l)
        return {"support": stacked(levels), "shares": masks_to_grid(support.masks, self.side).flatten(2)}

    def decode(self, state: State, query: list[Tensor]) -> Tensor:
        """Difference of foreground and background similarity, as logits."""
        own = stacked([to_grid(feature, self.side).flatten(2) for feature in query])  # (B, c, l)
        support, shares = (expand(state[name], len(own)) for name in ("support", "shares"))
        logits = self.compare(own, support, shares).float()  # (B, l)
        return self.enlarge(logits.unflatten(1, (1, self.side, self.side)))

    def compare(self, query: Tensor, support: Tensor, shares: Tensor) -> Tensor:
        """Logits (B, l) of descriptors (B, c, l) against support (B, K, c, l) and shares (B, K, l)."""
        return relate(query, support, shares, self.concat)[0][:, 2]


@register("prototype", PrototypeConfig)
class Prototype(Matching):
    """Foreground where the cosine to the foreground's mean descriptor exceeds that to the background's."""

    def compare(self, query: Tensor, support: Tensor, shares: Tensor) -> Tensor:
        """Cosine to the foreground prototype (eq. 12) minus cosine to the background's, (B, l)."""
        query, support = centred(query, support.transpose(1, 2).flatten(2))
        weights = shares.flatten(1)  # (B, K l)
        both = [weighted_mean(support, weights), weighted_mean(support, 1 - weights)]
        near, far = (torch.einsum("bc,bcl->bl", F.normalize(p, dim=1), query) for p in both)
        return near - far


@register("all_foreground", NetworkConfig)
@register("all_background", NetworkConfig)
class Constant(Segmenter):
    """The same answer everywhere: all foreground or all background."""

    def __init__(self, config: NetworkConfig, channels: Mapping[int, int], image_size: int) -> None:
        super().__init__(channels, (min(channels),), image_size)
        self.value = 1.0 if config.name == "all_foreground" else -1.0

    def encode(self, support: Support) -> State:
        """Nothing is kept of the support but its batch."""
        return {"masks": support.masks[:, :1, :1, :1]}

    def decode(self, state: State, query: list[Tensor]) -> Tensor:
        """Logits of one sign."""
        shape = (len(query[0]), self.image_size, self.image_size)
        return torch.full(shape, self.value, device=query[0].device)
