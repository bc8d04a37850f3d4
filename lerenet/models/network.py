"""Backbone and head in one module: images in, logits out."""

from __future__ import annotations

from torch import Tensor, nn

from lerenet.models.backbones import Backbone
from lerenet.models.base import Segmenter, State


class Network(nn.Module):
    """End to end.

    Args:
        backbone: gives at least the levels that ``head`` reads.
    """

    def __init__(self, backbone: Backbone, head: Segmenter) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def _features(self, images: Tensor) -> list[Tensor]:
        found = dict(zip(self.backbone.levels, self.backbone(images), strict=True))
        return [found[level] for level in self.head.levels]

    def enroll(self, images: Tensor, masks: Tensor) -> State:
        """Support images (B, K, 3, H, W) in [0, 1] and masks (B, K, H, W) -> state for `segment`."""
        levels = self._features(images.flatten(0, 1))
        return self.head.encode([level.unflatten(0, images.shape[:2]) for level in levels], masks)

    def segment(self, state: State, queries: Tensor) -> Tensor:
        """Queries (B, 3, H, W) -> logits (B, image_size, image_size)."""
        return self.head.decode(state, self._features(queries))

    def forward(self, support: Tensor, masks: Tensor, queries: Tensor) -> Tensor:
        """One-way episodes -> logits (B, image_size, image_size)."""
        return self.segment(self.enroll(support, masks), queries)
