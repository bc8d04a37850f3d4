"""Images and masks at another size; no thin defect vanishes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lerenet.data.images import Pixels

Mask = NDArray[np.bool_]  # (H, W)
Marks = NDArray[np.int8]  # (H, W): 1 on the defect, 0 beside it, IGNORED where a pixel counts as nothing
IGNORED = -1
VOID, VOID_COLOUR = 255, (224, 224, 192)  # of PASCAL VOC: its number in a palette, and its colour


def resize_image(image: Pixels, size: int | tuple[int, int]) -> Pixels:
    """Scale (H, W, 3) to ``size`` (one side, or height and width), bilinear with antialiasing."""
    height, width = (size, size) if isinstance(size, int) else size
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def resize_mask(mask: Mask, size: int | tuple[int, int]) -> Mask:
    """Scale (H, W) to ``size`` (one side, or height and width) so that no thin defect vanishes.

    A pixel is foreground when the defect covers at least half of it. Where that leaves less area
    than the defect had (thin ones), the most covered pixels are kept until the area is reached, so
    a mask with any foreground keeps some.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if mask.shape == (height, width) or not mask.any():
        return mask if mask.shape == (height, width) else np.zeros((height, width), dtype=bool)
    source = Image.fromarray(mask.astype(np.float32))
    cover = np.asarray(source.resize((width, height), Image.Resampling.BOX))
    wanted = max(1, round(float(mask.mean()) * cover.size))
    reached = float(np.partition(cover, cover.size - wanted, axis=None)[cover.size - wanted])
    kept: Mask = cover >= max(min(0.5, reached), float(cover.max()) * 1e-3)
    return kept


def resize_marks(marks: Marks, size: int | tuple[int, int]) -> Marks:
    """Scale marks (H, W): the defect as `resize_mask`; beside it, what is mostly to be ignored is ignored."""
    height, width = (size, size) if isinstance(size, int) else size
    sized = resize_mask(marks > 0, (height, width)).astype(np.int8)
    ignored = marks == IGNORED
    if ignored.any():
        source = Image.fromarray(ignored.astype(np.float32))
        cover = np.asarray(source.resize((width, height), Image.Resampling.BOX))
        sized[(cover >= 0.5) & (sized == 0)] = IGNORED
    return sized
