"""What tools' own code writes is read pixel for pixel, and what is written by it; skipped where a tool is not there."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings

from lerenet.annotations import brush, label_studio, register
from tests.helpers import annotations as made
from tests.helpers.annotations import masks, pictured, save


@settings(max_examples=100, deadline=None)
@given(masks)
def test_masks_of_cvat_sdk(mask: np.ndarray) -> None:
    sdk = pytest.importorskip("cvat_sdk.masks")
    if not mask.any():
        return
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    *counts, left, top, right, bottom = (int(value) for value in sdk.encode_mask(mask, box))
    shape = (
        f'<mask label="Scratch" rle="{", ".join(map(str, counts))}" left="{left}" top="{top}" '
        f'width="{right - left + 1}" height="{bottom - top + 1}" z_order="0"/>'
    )
    with TemporaryDirectory() as folder:
        (read,) = register.read(save(Path(folder) / "annotations.xml", made.cvat(mask.shape, shape)), "cvat")
    assert (read.of_class("Scratch") == mask).all()


@settings(max_examples=100, deadline=None)
@given(masks)
def test_brushes_of_label_studio_sdk(mask: np.ndarray) -> None:
    sdk = pytest.importorskip("label_studio_sdk.converter.brush")
    encoded = sdk.encode_rle(np.repeat(mask.ravel() * np.uint8(255), 4).tolist())
    assert (brush.decode(encoded, mask.shape) == mask).all()
    (task,) = label_studio.tasks([pictured(mask, 0.5)], "model 3")
    for one in task["predictions"][0]["result"]:
        pixels = np.asarray(sdk.decode_rle(one["value"]["rle"])).reshape(*mask.shape, 4)
        assert ((pixels[..., 3] > 127) == mask).all()
