"""Backbone and head in one module: images in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from lerenet.cells import View
from lerenet.models.backbones.factory import Backbone
from lerenet.models.batch import assemble
from lerenet.models.refine import refine
from lerenet.models.segmenter import Segmenter, State


class Network(nn.Module):
    """End to end.

    Args:
        backbone: gives at least the levels that ``head`` reads.
    """

    def __init__(self, backbone: Backbone, head: Segmenter) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def enrol(self, images: Tensor, masks: Tensor) -> State:
        """Support images (B, K, 3, H, W) in [0, 1] and masks (B, K, H, W) -> state for `segment`."""
        size, shots = images.shape[:2]
        views = [[(f"{i}", k) for k in range(shots)] for i in range(size)]
        given = _Given(self.backbone, images.flatten(0, 1), masks.flatten(0, 1))
        return self.head.encode(assemble(given, views, [], self.head, images.device).support)

    def segment(self, state: State, queries: Tensor) -> Tensor:
        """Queries (B, 3, H, W) in [0, 1], H = W = image_size -> logits (B, image_size, image_size)."""
        logits = self.head.decode(state, self.backbone.features(queries, self.head.levels))
        return refine(logits.float(), queries) if self.head.refined else logits

    def forward(self, support: Tensor, masks: Tensor, queries: Tensor) -> Tensor:
        """One-way episodes -> logits (B, image_size, image_size)."""
        return self.segment(self.enrol(support, masks), queries)


@dataclass(frozen=True)
class _Given:
    """Support images (n, 3, H, W) and masks (n, H, W) at hand; they are asked for all together, in their order."""

    backbone: Backbone
    images: Tensor
    support: Tensor

    def features(self, views: Sequence[View], levels: Sequence[int], masked: bool = False) -> list[Tensor]:
        return self.backbone.features(self.images * self.support[:, None] if masked else self.images, levels)

    def normal(self, view: View) -> View | None:
        return None

    def masks(self, views: Sequence[View]) -> Tensor:
        return self.support

    def pictures(self, views: Sequence[View]) -> Tensor:
        return self.images
