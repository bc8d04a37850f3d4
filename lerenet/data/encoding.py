"""Pictures and masks as the bytes of files, and as files that are whole or not there."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from lerenet.data.images import Pixels
from lerenet.data.scaling import IGNORED, VOID, VOID_COLOUR, Marks, Mask
from lerenet.files import atomic_path


def encode_jpeg(image: Pixels, quality: int = 95) -> bytes:
    """RGB (H, W, 3) or grey (H, W) as the bytes of a JPEG file."""
    return _encoded(Image.fromarray(image), "JPEG", quality=quality, optimize=True)


def encode_png(image: Pixels) -> bytes:
    """RGB (H, W, 3) or grey (H, W) as the bytes of a PNG file."""
    return _encoded(Image.fromarray(image), "PNG")


def encode_mask(mask: Mask | Marks) -> bytes:
    """A mask (H, W) as the bytes of a PNG file: grey with 0 and 255.

    Where pixels are to be ignored, as PASCAL VOC has it: a palette with 0, 1 and `VOID`, of `VOID_COLOUR`.
    """
    if (mask == IGNORED).any():
        numbers = np.where(mask == IGNORED, VOID, mask > 0).astype(np.uint8)
        image = Image.frombytes("P", (mask.shape[1], mask.shape[0]), numbers.tobytes())
        image.putpalette([0, 0, 0, 255, 255, 255, *([0, 0, 0] * (VOID - 2)), *VOID_COLOUR])
        return _encoded(image, "PNG", optimize=False)
    return _encoded(Image.fromarray((mask > 0).astype(np.uint8) * 255), "PNG", optimize=True)


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, kind, **options)
    return encoded.getvalue()


def write_jpeg(path: Path, image: Pixels, quality: int = 95) -> None:
    """Write `encode_jpeg`'s bytes, whole or not at all.

    Raises:
        LerenetError: the disk refuses; an older file stays.
    """
    write_encoded(path, encode_jpeg(image, quality))


def write_mask(path: Path, mask: Mask | Marks) -> None:
    """Write `encode_mask`'s bytes, whole or not at all.

    Raises:
        LerenetError: the disk refuses; an older file stays.
    """
    write_encoded(path, encode_mask(mask))


def write_encoded(path: Path, content: bytes) -> None:
    """Write what was encoded, whole or not at all.

    Raises:
        LerenetError: the disk refuses; an older file stays.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
