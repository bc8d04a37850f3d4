"""Backbone and head in one module: images in, logits out."""

from __future__ import annotations

from torch import Tensor, nn

from lerenet.models.backbones import Backbone
from lerenet.models.base import Extra, Segmenter, State, without_defect
from lerenet.models.tones import refine


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
        shape = images.shape[:2]
        levels = [level.unflatten(0, shape) for level in self._features(images.flatten(0, 1))]
        extra: Extra = {}
        if "masked" in self.head.extras:
            alone = self._features((images * masks[:, :, None]).flatten(0, 1))
            extra["masked"] = [level.unflatten(0, shape) for level in alone]
        if "normal" in self.head.extras:
            extra["normal"] = without_defect(levels, masks)
        return self.head.encode(levels, masks, extra)

    def segment(self, state: State, queries: Tensor) -> Tensor:
        """Queries (B, 3, H, W) in [0, 1], H = W = image_size -> logits (B, image_size, image_size)."""
        logits = self.head.decode(state, self._features(queries))
        return refine(logits.float(), queries) if self.head.outlined else logits

    def forward(self, support: Tensor, masks: Tensor, queries: Tensor) -> Tensor:
        """One-way episodes -> logits (B, image_size, image_size)."""
        return self.segment(self.enroll(support, masks), queries)
