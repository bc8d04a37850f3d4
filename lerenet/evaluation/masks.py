"""Masks of single episodes in one file, one bit a pixel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lerenet.errors import DataError
from lerenet.files import atomic_path

Mask = NDArray[np.bool_]


def save_masks(path: Path, episodes: Sequence[int], batches: Iterable[Mask]) -> None:
    """Write masks (n, H, W), given in batches, one a number of ``episodes``: one bit a pixel, compressed."""
    parts = list(batches)
    masks = np.concatenate(parts) if parts else np.zeros((0, 1, 1), bool)
    with atomic_path(path) as temporary:
        shape = masks.shape[1:]
        packed = np.packbits(masks.reshape(len(masks), shape[0] * shape[1]), axis=1)
        np.savez_compressed(temporary, episodes=np.asarray(episodes, np.int64), shape=shape, bits=packed)


def read_masks(path: Path) -> dict[int, Mask]:
    """Episode number to mask (H, W), as `save_masks` wrote them.

    Raises:
        DataError: the file can't be read.
    """
    try:
        with np.load(path) as archive:
            height, width = (int(side) for side in archive["shape"])
            bits = np.unpackbits(archive["bits"], axis=1, count=height * width).astype(bool)
            masks = bits.reshape(-1, height, width)
            return {int(number): mask for number, mask in zip(archive["episodes"], masks, strict=True)}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(f"{path}: can't be read: {error}", "delete it and run `dvc repro`") from error
