"""Label Studio's brush: an image's RGBA values, row by row, in runs that are packed bit by bit.

32 bits count the values, 5 the bits of a value less 1, four times 4 the bits that a length may have, less 1. Then come
the runs: one bit, 1 for a value that is repeated, 0 for values one by one; two bits, which of the four lengths;
the length less 1; the values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lerenet.annotations.regions import Size
from lerenet.data.scaling import Mask

CHANNELS, OPACITY = 4, 3
HALF = 128  # opacity from which a pixel is marked: strokes have soft edges
LENGTHS = (3, 4, 8, 16)  # bits of a length, as Label Studio writes them


class _Bits:
    """Reads numbers bit by bit, the highest first."""

    def __init__(self, data: bytes) -> None:
        self.bits, self.place = np.unpackbits(np.frombuffer(data, np.uint8)), 0

    def take(self, count: int) -> np.ndarray:
        piece = self.bits[self.place : self.place + count]
        if len(piece) < count:
            raise ValueError("the run lengths end too early: cut off?")
        self.place += count
        return piece

    def number(self, count: int) -> int:
        return int.from_bytes(np.packbits(self.take(count)).tobytes(), "big") >> -count % 8


def decode(packed: Sequence[float], size: Size) -> Mask:
    """The mask (H, W) of what is at least half opaque.

    Raises:
        ValueError: no bytes, cut off, or of another size.
    """
    if any(not (float(value).is_integer() and 0 <= value < 256) for value in packed):
        raise ValueError("a run length's byte is none of 0 to 255")
    bits = _Bits(bytes(map(int, packed)))
    count, depth = bits.number(32), bits.number(5) + 1
    if count != size[0] * size[1] * CHANNELS:
        raise ValueError(f"{count // CHANNELS} pixels, the size says {size[0] * size[1]}")
    if depth != 8:
        raise ValueError(f"values of {depth} bits, 8 are expected")
    lengths = [bits.number(4) + 1 for _ in LENGTHS]
    values, place = np.zeros(count, np.uint8), 0
    while place < count:
        repeated = bits.number(1)
        end = place + bits.number(lengths[bits.number(2)]) + 1
        if end > count:
            raise ValueError("the run lengths go beyond the image")
        values[place:end] = np.packbits(bits.take(depth if repeated else depth * (end - place)))
        place = end
    return values.reshape(*size, CHANNELS)[..., OPACITY] >= HALF


def encode(mask: Mask) -> list[int]:
    """The bytes of a mask (H, W), white on a transparent ground."""
    marked = mask.ravel()
    starts = np.flatnonzero(np.diff(marked, prepend=~marked[:1]))
    parts = [f"{marked.size * CHANNELS:032b}", f"{7:05b}", *(f"{length - 1:04b}" for length in LENGTHS)]
    for start, pixels in zip(starts, np.diff(starts, append=marked.size), strict=True):
        parts += _run(int(pixels) * CHANNELS, 255 * int(marked[start]))
    text = "".join(parts)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _run(length: int, value: int) -> list[str]:
    """One value ``length`` times, in as many runs as that takes."""
    parts = []
    while length:
        which = next((place for place, bits in enumerate(LENGTHS) if length <= 1 << bits), len(LENGTHS) - 1)
        piece = min(length, 1 << LENGTHS[which])
        parts.append(f"1{which:02b}{piece - 1:0{LENGTHS[which]}b}{value:08b}")
        length -= piece
    return parts
