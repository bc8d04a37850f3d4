"""From decoded pictures to masks: the one way that `lerenet predict` and MLflow's server take."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from lerenet.data.images import MIN_SIDE, read_image
from lerenet.data.scaling import resize_image, resize_mask
from lerenet.device import keep_memory, pick_device
from lerenet.errors import DataError
from lerenet.features.store import to_batch
from lerenet.files import shown
from lerenet.models.backbones.fuse_batchnorm import fuse_batchnorm
from lerenet.models.backbones.fused import fuse

if TYPE_CHECKING:
    from lerenet.models.segmenter import State
    from lerenet.models.serialization import LoadedNetwork

MAX_SHOTS = 5
Pixels = NDArray[np.uint8]
Example = tuple[Pixels, NDArray[np.bool_]]


def check_shots(count: int) -> None:
    """Raise `DataError` unless there are 1 to 5 supports."""
    if not 1 <= count <= MAX_SHOTS:
        raise DataError(f"{count} supports given", f"give 1 to {MAX_SHOTS} pairs of image and mask")


def read_query(path: Path, bits: int = 0) -> Pixels:
    """Image (H, W, 3) of a query; ``bits`` as `read_image` takes them.

    Raises:
        DataError: unreadable, or under `MIN_SIDE` pixels on a side.
    """
    pixels = read_image(path, bits)
    if min(pixels.shape[:2]) < MIN_SIDE:
        high, wide = pixels.shape[:2]
        raise DataError(f"{shown(path)}: {wide} x {high} pixels", f"give at least {MIN_SIDE} on each side")
    return pixels


def prepare(loaded: LoadedNetwork, fused: bool = True) -> LoadedNetwork:
    """A copy of ``loaded``, as it comes from disk, that is ready to predict.

    It is on the GPU where there is one. Its backbone is folded (`fuse_batchnorm`) and, on a CPU and unless ``fused`` is
    False, fused (`fuse`; that computes in fp32 whatever autocast says). From now on this process keeps memory that
    it frees (`keep_memory`).
    """
    keep_memory()
    device, network = pick_device(), copy.deepcopy(loaded.network)
    network.backbone = fuse_batchnorm(network.backbone, loaded.image_size)
    if fused and device.type == "cpu":
        network.backbone = fuse(network.backbone, loaded.image_size)
    return replace(loaded, network=network.to(device))


def enrol(loaded: LoadedNetwork, supports: Sequence[Example]) -> State:
    """Run backbone and head once for the K supports; the state serves any number of queries."""
    images = _batch(loaded, [image for image, _ in supports])  # (K, 3, S, S)
    masks = np.stack([resize_mask(mask, loaded.image_size) for _, mask in supports])
    truth = torch.from_numpy(masks).float().to(images.device)  # (K, S, S)
    with torch.inference_mode():
        return loaded.network.enrol(images[None], truth[None])


def segment(
    loaded: LoadedNetwork, state: State, queries: Sequence[Pixels]
) -> list[tuple[NDArray[np.bool_], NDArray[np.float32]]]:
    """Mask and probability of foreground for each query (H, W, 3), both in its own size (H, W)."""
    with torch.inference_mode():
        chances = loaded.network.segment(state, _batch(loaded, queries)).float().sigmoid().cpu()  # (N, S, S)
    sized = [_own_size(chance, query) for chance, query in zip(chances, queries, strict=True)]
    return [(probability > loaded.threshold, probability) for probability in sized]


def _own_size(chance: Tensor, query: Pixels) -> NDArray[np.float32]:
    own = interpolate(chance[None, None], size=query.shape[:2], mode="bilinear", align_corners=False)
    sized: NDArray[np.float32] = own[0, 0].numpy()
    return sized


def _batch(loaded: LoadedNetwork, images: Sequence[Pixels]) -> Tensor:
    """Pictures of any size -> (N, 3, S, S), S the network's own size, on its device."""
    return to_batch([resize_image(image, loaded.image_size) for image in images], _device(loaded))


def _device(loaded: LoadedNetwork) -> torch.device:
    return next(itertools.chain(loaded.network.parameters(), loaded.network.buffers())).device
