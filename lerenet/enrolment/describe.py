"""Pictures to descriptors of places: what memories hold and what is asked of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lerenet.data.images import Pixels
from lerenet.data.scaling import Mask, resize_image, resize_mask
from lerenet.features.store import to_batch
from lerenet.models.descriptors import stacked
from lerenet.models.segmenter import masks_to_grid, to_grid
from lerenet.models.serialization import LoadedNetwork

SIDE = 25  # places a side
BATCH = 8


@torch.inference_mode()
def describe(loaded: LoadedNetwork, pictures: Sequence[Pixels]) -> Tensor:
    """Descriptors (N, c, l) of pictures (H, W, 3) of any size, on the levels that the network reads."""
    network = loaded.network
    device = next(itertools.chain(network.parameters(), network.buffers())).device
    parts = []
    for start in range(0, len(pictures), BATCH):
        sized = [resize_image(picture, loaded.image_size) for picture in pictures[start : start + BATCH]]
        levels = network.backbone.features(to_batch(sized, device), network.head.levels)
        parts.append(stacked([to_grid(level, SIDE).flatten(2) for level in levels]))
    return torch.cat(parts)


def shares_of(masks: Sequence[Mask], image_size: int) -> Tensor:
    """Share of each place that is defect, (N, l), of masks (H, W)."""
    sized = np.stack([resize_mask(mask, image_size) for mask in masks])
    return masks_to_grid(torch.from_numpy(sized).float()[:, None], SIDE)[:, 0].flatten(1)
