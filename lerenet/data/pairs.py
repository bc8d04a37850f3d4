"""An image and its mask, checked together: the one way for import and prediction.

What is drawn on the raw pixels of a turned photo is turned with it; what can't be a mask of its image is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np

from lerenet.data.images import MIN_SIDE, TURNED, TURNS, Pixels, image_facts, read_image
from lerenet.data.masks import read_marks
from lerenet.data.reading import PLAIN, RAW, Reading
from lerenet.data.scaling import Marks, Mask, resize_marks
from lerenet.errors import DataError
from lerenet.files import shown

MOST_FOREGROUND = 0.95  # more, and the mask is likely inverted
FRAMED = 0.95  # of the picture's edge is marked, and over half of the picture: likely inverted, too


def read_pair(
    image: Path, masks: Sequence[Path], reading: Reading = PLAIN, resize: bool = False
) -> tuple[Pixels, Mask]:
    """Upright pixels (H, W, 3) and mask (H, W) of one image; pixels to ignore are background: see `read_marked`."""
    pixels, marks = read_marked(image, masks, reading, resize)
    return pixels, marks > 0


def read_marked(
    image: Path, masks: Sequence[Path], reading: Reading = PLAIN, resize: bool = False
) -> tuple[Pixels, Marks]:
    """Upright pixels (H, W, 3) and marks (H, W) of one image (`lerenet.data.scaling.Marks`).

    Args:
        image: the image's file.
        masks: its masks, at least one; several are joined.
        reading: what a person says of the files.
        resize: scale a mask of another size instead of refusing it.

    Raises:
        DataError: unreadable; of different sizes; image and mask swapped; a mask that is empty, marks nearly all,
            or may be drawn on the raw or on the upright pixels. The message names the file.
    """
    pixels = read_image(image, reading.bits)
    turn = image_facts(image).orientation
    if min(pixels.shape[:2]) < MIN_SIDE:
        raise DataError(
            f"{shown(image)}: {pixels.shape[1]} x {pixels.shape[0]} pixels",
            f"give a picture with at least {MIN_SIDE} pixels a side",
        )
    if _is_mask(pixels):
        raise DataError(f"{shown(image)}: nothing but black and white", "give the image first, then its mask")
    fitted = [_fitted(path, image, pixels.shape[:2], turn, reading, resize) for path in masks]
    marks = reduce(_both, fitted)
    _check(marks > 0, masks, reading)
    return pixels, marks


def _both(one: Marks, two: Marks) -> Marks:
    """What either marks; beside that, what either ignores."""
    return np.where((one > 0) | (two > 0), np.int8(1), np.minimum(one, two))


def _is_mask(pixels: Pixels) -> bool:
    """Whether an image holds exactly black and one other value, as a mask does."""
    first = pixels.reshape(-1, 3)[:4096]
    if len(np.unique(first, axis=0)) > 2:
        return False
    values = np.unique(pixels.reshape(-1, 3), axis=0)
    return len(values) == 2 and not values[0].any() and bool((values[1] == values[1][0]).all())


def _check(mask: Mask, masks: Sequence[Path], reading: Reading) -> None:
    names = ", ".join(map(shown, masks))
    if not mask.any():
        chosen = f" with label {reading.label}" if reading.label else ""
        raise DataError(
            f"{names}: marks no pixel{chosen}",
            "mark the defect in white (255) on black (0); a clean image has no mask",
        )
    if mask.mean() > MOST_FOREGROUND or (mask.mean() > 0.5 and _edge(mask).mean() > FRAMED):
        raise DataError(
            f"{names}: {mask.mean():.0%} of it is defect, {_edge(mask).mean():.0%} of its edge; is black the defect?",
            "then say so (--inverted; in --spec inverted: true); else mark less",
        )


def _edge(mask: Mask) -> Mask:
    """The outermost pixels, in a row."""
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])


def _fitted(
    path: Path, image: Path, shape: tuple[int, ...], turn: int, reading: Reading, resize: bool
) -> Marks:
    """The mask at ``path``, upright, in the image's ``shape`` (H, W)."""
    mask = read_marks(path, reading)
    if turn != 1 and image_facts(path).orientation == 1 and _is_raw(mask, path, image, shape, turn, reading):
        mask = turn_mask(mask, turn)
    if mask.shape == shape:
        return mask
    if resize:
        return resize_marks(mask, (shape[0], shape[1]))
    (height, width), (own_height, own_width) = shape, mask.shape
    raise DataError(
        f"{shown(path)}: {own_width} x {own_height} pixels, its image {shown(image)} {width} x {height}",
        "export the mask at the image's size",
    )


def _is_raw(
    mask: Marks, path: Path, image: Path, shape: tuple[int, ...], turn: int, reading: Reading
) -> bool:
    """Whether a mask without EXIF was drawn on the raw pixels of an image that EXIF turns."""
    if reading.drawn_on:
        return reading.drawn_on == RAW
    raw = shape[::-1] if turn in TURNED else shape
    if mask.shape != raw:
        return False
    if mask.shape != shape:
        return True
    if (turn_mask(mask, turn) == mask).all():
        return False
    raise DataError(
        f"{shown(path)}: may be drawn on the raw or on the upright pixels of {shown(image)} (EXIF orientation {turn}); "
        "its size fits both",
        "say which: --drawn-on raw or --drawn-on upright (in --spec drawn_on)",
    )


def turn_mask(mask: Marks, orientation: int) -> Marks:
    """Turn marks drawn on the raw pixels of an image as the image's EXIF ``orientation`` says."""
    from PIL import Image

    if orientation == 1:
        return mask
    return np.asarray(Image.fromarray(mask.view(np.uint8)).transpose(TURNS[orientation])).view(np.int8)
