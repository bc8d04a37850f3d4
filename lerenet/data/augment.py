"""Views of an image at the network's size: view 0 is the image itself, the others are augmented.

Scale 0.9 to 1.1, rotation of 10 degrees either way, Gaussian blur and horizontal flip, then a crop
to size (the paper's family of augmentations); a view depends on (seed, image, view) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transform

from lerenet.data.images import read_image
from lerenet.data.masks import read_marks
from lerenet.data.scaling import Marks
from lerenet.data.tiles import SIDE, SOURCE, TILE, tiling
from lerenet.errors import DataError
from lerenet.files import sha256_file, state_of
from lerenet.params import ViewSettings
from lerenet.seeds import generator

Pixels = NDArray[np.uint8]  # (size, size, 3)


def augment(
    image: Pixels, marks: Marks, settings: ViewSettings, key: tuple[object, ...]
) -> tuple[Pixels, Marks]:
    """One augmented view; what turns into the picture from outside takes the image's mean colour.

    A view that would lose the whole defect falls back to the image itself.
    """
    rng = generator(*key)
    angle = float(rng.uniform(-settings.rotation, settings.rotation))
    scale = float(rng.uniform(1 - settings.scale, 1 + settings.scale))
    flip, blur = rng.random() < settings.flip, rng.random() < settings.blur
    room = [float(rng.uniform(-1, 1)) * abs(scale - 1) * side / 2 for side in image.shape[:2]]
    picture = torch.from_numpy(image.copy()).permute(2, 0, 1)  # (3, H, W)
    truth = torch.from_numpy(marks.copy())[None].float()  # (1, H, W)
    fill = [float(value) for value in image.mean(axis=(0, 1))]
    shift = [room[1], room[0]]
    picture = transform.affine(picture, angle, shift, scale, [0.0], InterpolationMode.BILINEAR, fill=fill)
    truth = transform.affine(truth, angle, shift, scale, [0.0], InterpolationMode.NEAREST, fill=[0.0])
    if (marks > 0).any() and not (truth > 0).any():
        return image, marks
    if flip:
        picture, truth = transform.horizontal_flip(picture), transform.horizontal_flip(truth)
    if blur:
        picture = transform.gaussian_blur(picture, [5, 5], [float(rng.uniform(0.3, 1.2))])
    return picture.permute(1, 2, 0).numpy(), truth[0].to(torch.int8).numpy()


def load_plain(data: Path, row: pd.Series, size: int) -> tuple[Pixels, Marks]:
    """Image and marks of a catalogue row at ``size`` x ``size``; nothing is marked on a clean image.

    A row of `lerenet.data.tiles.tiled` is one square of its image.

    Raises:
        DataError: a file can't be read, or is not the one that was catalogued.
    """
    files = (str(row.get(SOURCE, row["image"])), row["sha256"], row["mask"], row["mask_sha256"])
    states = tuple(state_of(data / name) for name in (files[0], files[2]) if name)
    pictures, marks = _cut(data, files, states, int(row.get(SIDE, 0)), size)
    return pictures[row.get(TILE, 0)], marks[row.get(TILE, 0)]


@lru_cache(maxsize=1)  # the squares of a picture follow each other
def _cut(
    data: Path, files: tuple[str, str, str, str], _states: tuple[object, ...], side: int, size: int
) -> tuple[list[Pixels], list[Marks]]:
    """Every square of an image, and of its marks."""
    image, sha256, mask, mask_sha256 = files
    picture = read_image(_catalogued(data / image, sha256))
    how = tiling(picture.shape[0], picture.shape[1], side, size)
    squares = how.cut(how.fitted(picture))
    if not mask:
        return squares, [np.zeros((size, size), dtype=np.int8)] * len(squares)
    return squares, how.cut(how.fitted_marks(read_marks(_catalogued(data / mask, mask_sha256))))


def _catalogued(path: Path, sha256: str) -> Path:
    """``path``, if its bytes are those of the catalogue: what is computed from them is kept under their digest."""
    if path.exists() and sha256_file(path) != sha256:
        raise DataError(
            f"{path}: changed since it was catalogued", "run `dvc repro` when nothing writes there"
        )
    return path


def load_views(
    data: Path,
    row: pd.Series,
    size: int,
    settings: ViewSettings,
    seed: int,
    views: Sequence[int],
) -> list[tuple[Pixels, Marks]]:
    """The asked-for views of one image, decoded once."""
    image, marks = load_plain(data, row, size)
    key = (seed, "view", row["image"])
    return [(image, marks) if view == 0 else augment(image, marks, settings, (*key, view)) for view in views]
