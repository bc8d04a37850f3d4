"""Masks keep their defect when they are scaled; what is written is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lerenet.data.encoding import write_mask
from lerenet.data.images import read_image
from lerenet.data.masks import measure_mask, read_mask
from lerenet.data.scaling import resize_mask


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(5, 300), st.integers(5, 300), st.sampled_from([32, 64]))
def test_a_mask_never_vanishes_when_it_is_scaled(seed: int, height: int, width: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), dtype=bool)
    mask[rng.integers(height), rng.integers(width)] = True
    scaled = resize_mask(mask, side)
    assert scaled.shape == (side, side)
    assert scaled.any()
    assert not resize_mask(np.zeros((height, width), dtype=bool), side).any()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    spot = np.zeros((20, 25), dtype=bool)
    spot[3:8, 10:20] = True
    write_mask(tmp_path / "m.png", spot)
    assert (read_mask(tmp_path / "m.png") == spot).all()
    assert measure_mask(tmp_path / "m.png").canonical
    picture = np.random.default_rng(0).integers(0, 255, (20, 25, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "p.png")
    assert (read_image(tmp_path / "p.png") == picture).all()
