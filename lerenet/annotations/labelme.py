"""labelme: a JSON file an image, beside it; shapes with a label each.

Polygons, rectangles and circles are filled, mask shapes are read as they are. Lines and points have no area: they are
refused. The label ``__ignore__`` marks pixels that count as nothing, ``_background_`` marks nothing.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lerenet.annotations.node import Node, read_node
from lerenet.annotations.outlines import outlines
from lerenet.annotations.polygons import Ring, box, fill, ring_of
from lerenet.annotations.regions import AnnotatedImage, Region, Size, joined
from lerenet.data.images import MAX_PIXELS
from lerenet.data.scaling import Mask

IGNORED, BACKGROUND = "__ignore__", "_background_"
CORNERS = 256  # of a circle's polygon
DRAW = "draw it as a polygon or a mask"


def is_labelme(value: Any) -> bool:
    """Whether the top of a JSON file is that of labelme."""
    return isinstance(value, dict) and {"shapes", "imagePath"} <= value.keys()


def read(path: Path) -> Iterator[AnnotatedImage]:
    """The image of one file.

    Raises:
        DataError: a field that is missing or wrong, a shape without area or outside the image; the message names file
            and entry.
    """
    top = read_node(path)
    size = top.size("imageHeight", "imageWidth")
    regions = [Region(shape["label"].text(), _mask(shape, size)) for shape in top["shapes"]]
    ignored = [region.mask for region in regions if region.name == IGNORED]
    yield AnnotatedImage(
        top["imagePath"].text(),
        size,
        tuple(region for region in regions if region.name not in (IGNORED, BACKGROUND)),
        joined(ignored, size) if ignored else None,
        top.place,
    )


def _mask(shape: Node, size: Size) -> Mask:
    kind = shape.get("shape_type")
    name = kind.text() if kind else "polygon"  # files of old versions do not say it
    try:
        if name == "mask":
            return _drawn(shape, size)
        return fill([_ring(name, shape["points"].numbers(), shape)], size)
    except ValueError as error:
        raise shape.error(error) from error


def _ring(name: str, numbers: list[float], shape: Node) -> Ring:
    if name == "polygon":
        return ring_of(numbers)
    if name == "rectangle" and len(numbers) == 8:
        return ring_of(numbers)
    if name not in ("rectangle", "circle"):
        raise shape.error(f"a {name} has no area", DRAW)
    if len(numbers) != 4:
        raise ValueError(f"a {name} of {len(numbers) / 2:g} points instead of 2")
    x0, y0, x1, y1 = numbers
    if name == "rectangle":
        return box(x0, y0, x1, y1)
    angles = np.arange(CORNERS) * (2 * math.pi / CORNERS)
    radius = math.hypot(x1 - x0, y1 - y0)
    return ring_of(
        np.stack([x0 + radius * np.cos(angles), y0 + radius * np.sin(angles)], axis=1).ravel().tolist()
    )


def _drawn(shape: Node, size: Size) -> Mask:
    """A mask shape: a PNG in base64, laid from its first point to its second, both included."""
    patch = _decoded(shape["mask"])
    left, top, right, bottom = (int(number) for number in (*shape["points"].numbers(), -1, -1, -1, -1)[:4])
    if patch.shape != (bottom - top + 1, right - left + 1):
        raise ValueError(
            f"a mask of {patch.shape[1]} x {patch.shape[0]} pixels, "
            f"its points span {right - left + 1} x {bottom - top + 1}"
        )
    if left < 0 or top < 0 or right >= size[1] or bottom >= size[0]:
        raise ValueError(
            f"a mask up to ({right}, {bottom}) is outside the image of {size[1]} x {size[0]} pixels"
        )
    mask: Mask = np.zeros(size, dtype=bool)
    mask[top : bottom + 1, left : right + 1] = patch
    return mask


def _decoded(node: Node) -> Mask:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(node.text(), validate=True)), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            return np.asarray(image.convert("L")) > 0
    except (binascii.Error, OSError, SyntaxError, ValueError, Image.DecompressionBombWarning) as error:
        raise node.error(f"no PNG in base64: {error}") from error


def document(image: AnnotatedImage) -> dict[str, Any]:
    """The JSON file of an image: each region's parts as polygons along the pixels' edges, held together by a group."""
    shapes = [
        {
            "label": region.name,
            "points": ring.tolist(),
            "group_id": number,
            "description": "" if region.score is None else f"score {region.score:.4f}",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for number, region in enumerate(image.regions, 1)
        for ring in outlines(region.mask)
    ]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image.image,
        "imageData": None,
        "imageHeight": image.size[0],
        "imageWidth": image.size[1],
    }
