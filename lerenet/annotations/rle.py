"""Run lengths: COCO's, column by column, as counts or as its text; and those of a box, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lerenet.annotations.regions import Size
from lerenet.data.scaling import Mask

LONGEST = 7  # characters of one count of COCO's text, 5 bits each


def decode_counts(counts: Sequence[float], size: Size) -> Mask:
    """The mask (H, W) of counts of pixels, column by column, what is not marked first.

    Raises:
        ValueError: they do not add up to the image.
    """
    return _runs(counts, size[0] * size[1]).reshape(size[::-1]).T


def decode_rows(counts: Sequence[float], size: Size) -> Mask:
    """As `decode_counts`, row by row.

    Raises:
        ValueError: they do not add up to the box.
    """
    return _runs(counts, size[0] * size[1]).reshape(size)


def _runs(counts: Sequence[float], pixels: int) -> Mask:
    if any(count < 0 or not float(count).is_integer() for count in counts):
        raise ValueError("a run length is no whole number from 0 on")
    if int(sum(counts)) != pixels:
        raise ValueError(f"run lengths of {int(sum(counts))} pixels, the size says {pixels}: cut off?")
    mask: Mask = np.repeat(np.arange(len(counts)) % 2 > 0, np.asarray(counts, dtype=np.int64))
    return mask


def decode_text(text: str, size: Size) -> Mask:
    """The mask (H, W) of COCO's compressed counts.

    pycocotools decodes a text that is cut off to whatever its memory holds; here the counts are summed before.

    Raises:
        ValueError: no such text, or one that is cut off.
    """
    return decode_counts(counts_of(text), size)


def counts_of(text: str) -> list[int]:
    """The counts in COCO's text: 5 bits a character, the lowest first, a bit that says whether more follow.

    From the fourth count on it holds the difference to the one two before.

    Raises:
        ValueError: a character that is none of them, or an end within a count.
    """
    counts: list[int] = []
    value = place = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or place >= LONGEST:
            raise ValueError(f"{letter!r} is no letter of compressed run lengths")
        value |= (bits & 31) << 5 * place
        place += 1
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << 5 * place
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = place = 0
    if place:
        raise ValueError("compressed run lengths end within a number: cut off?")
    return counts


def encode_text(mask: Mask) -> dict[str, Any]:
    """COCO's ``size`` and compressed ``counts`` of a mask (H, W), as JSON holds them."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}
