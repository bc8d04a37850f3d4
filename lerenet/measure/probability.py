"""Probabilities of pixels as a file: a grey PNG of 16 bits, whose value / 65535 is the probability."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST = 65535


def probability_png(probability: NDArray[np.float32]) -> bytes:
    """Probabilities (H, W) as the bytes of a PNG file.

    Halves are rounded down, so a value is above a half (32768 or more) where the probability is, and nowhere else.
    """
    values = np.ceil(probability.astype(np.float64) * MOST - 0.5).astype(np.uint16)
    encoded = io.BytesIO()
    Image.fromarray(values).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()


def read_probability(path: Path | IO[bytes]) -> NDArray[np.float64]:
    """The probabilities (H, W) in a file of `probability_png`."""
    with Image.open(path) as image:
        return np.asarray(image).astype(np.float64) / MOST
