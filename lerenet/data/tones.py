"""From 16-bit values to 8: over their whole range or over the bits that the camera gives, never dark in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lerenet.errors import DataError
from lerenet.files import shown

Values = NDArray[Any]  # (H, W) or (H, W, C)
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")  # Pillow's names of 16-bit grey
WHITE_IS_ZERO = 0  # TIFF's PhotometricInterpretation (tag 262)
PHOTOMETRIC, BITS_PER_SAMPLE, SAMPLE_FORMAT, PLANES, SAMPLES, EXTRA = (
    262,
    258,
    339,
    284,
    277,
    338,
)  # TIFF's tags
HOT = (
    0.001  # of the values, and at least 8, may be hot pixels; the next one must reach a quarter of the range
)
QUARTER = 65536 // 4


def is_deep(image: Image.Image) -> bool:
    """Whether an image that is not yet decoded holds 16 bits a channel (Pillow keeps 8 of colours)."""
    tiles = getattr(image, "tile", [])
    raw = str(tiles[0][3]) if tiles else ""
    return image.mode in DEEP or (image.format in ("PNG", "TIFF") and ";16" in raw)


def odd_tiff(image: Image.Image) -> str:
    """What of a TIFF Pillow would take for something else; empty when nothing is."""
    if image.mode == "L" and tag(image, SAMPLE_FORMAT) == (2,):
        return "signed 8-bit values"
    samples = tag(image, SAMPLES) or 1
    plain = (
        samples == len(image.mode)
        and image.mode in ("RGB", "CMYK", "RGBA")
        and tag(image, EXTRA) in (None, (2,))
    )
    return "" if tag(image, PLANES) != 2 or samples == 1 or plain else f"{image.mode} in separate planes"


def eight_bit(image: Image.Image, path: Path, deep: bool, bits: int) -> Image.Image:
    """A decoded image with 8 bits a channel.

    Raises:
        DataError: 32-bit or signed values; or 16-bit values that fill less than a quarter of the range while
            ``bits`` is 0.
    """
    if image.mode in ("I", "F"):
        raise DataError(
            f"{shown(path)}: 32-bit, signed or real values (mode {image.mode})",
            "save it as 8-bit RGB or grey",
        )
    if not deep:
        return image
    if image.mode in DEEP:
        values = _scaled(np.asarray(image).astype(np.uint16), path, bits or _stated(image))
        return Image.fromarray(255 - values if tag(image, PHOTOMETRIC) == WHITE_IS_ZERO else values)
    return _colours(image, path, bits)


def tag(image: Image.Image, number: int) -> object:
    """The value of a TIFF's tag; None without it, or when the image is no TIFF."""
    return getattr(image, "tag_v2", {}).get(number)


def _stated(image: Image.Image) -> int:
    """Bits that the file itself names; 0 when it names none but 16."""
    return 12 if tag(image, BITS_PER_SAMPLE) == (12,) else 0


def _scaled(values: Values, path: Path, bits: int) -> Values:
    _check(values, path, bits)
    top = (1 << bits) - 1 if bits else 65535
    scaled = (values.astype(np.uint32) * 255 + top // 2) // top
    return np.minimum(scaled, 255).astype(np.uint8)


def _colours(image: Image.Image, path: Path, bits: int) -> Image.Image:
    """Pillow keeps the upper byte of each 16-bit channel: enough to judge, too little to scale up much."""
    if image.mode == "CMYK":
        return image
    channels = np.asarray(image)
    colours = channels[..., :1] if image.mode in ("LA", "La") else channels[..., :3]
    _check(colours.astype(np.uint32) * 257, path, bits)
    if bits in (0, 16):
        return image
    raise DataError(
        f"{shown(path)}: {bits} bits in a 16-bit file of several channels", "save it as 8-bit RGB, scaled"
    )


def _check(values: Values, path: Path, bits: int) -> None:
    if bits:
        return
    place = values.size - 1 - min(max(8, int(HOT * values.size)), values.size - 1)
    bright = int(np.partition(values, place, axis=None)[place])
    if bright < QUARTER:
        raise DataError(
            f"{shown(path)}: 16-bit, yet {1 - HOT:.1%} of its values are at most {bright} of 65535: it would come "
            "out dark",
            f"say how many bits your camera gives ({max(bright, 255).bit_length()}?): --bits on the command line, "
            "bits in --spec; 16 when it is meant to be dark; or save it as 8 bits",
        )
