"""CVAT's auto-annotation interface, by its own SDK."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lerenet.data.masks import read_mask
from lerenet.page.cvat import create
from lerenet.page.desk import Desk
from tests.helpers.prediction import picture, truth


@pytest.mark.whole
def test_an_image_is_answered_with_a_mask_that_cvat_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cvat_sdk.auto_annotation as interface
    from cvat_sdk.masks import decode_mask

    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path / "page", "matching", tmp_path / "enrolments")
    photos = []
    for seed in range(4):
        path = picture(tmp_path / "in" / f"{seed}.png", seed)
        photos.append(desk.photos.take(path.name, path.read_bytes()))
        desk.photos.keep(photos[-1], read_mask(truth(path)))
    desk.draft("Blob", photos, [])
    function = create("matching", "enrolments")
    assert isinstance(function.spec, interface.DetectionFunctionSpec)
    assert [(label.name, label.id) for label in function.spec.labels] == [("Blob", 1)]
    query = picture(tmp_path / "q.png", 30)
    with Image.open(query) as image:
        (shape,) = function.detect(SimpleNamespace(conv_mask_to_poly=False), image)
        polygons = function.detect(SimpleNamespace(conv_mask_to_poly=True), image)
        size = (image.width, image.height)
    assert {polygon.type.value for polygon in polygons} == {"polygon"}
    assert all(len(polygon.points) >= 8 for polygon in polygons)
    assert (shape.type.value, shape.label_id) == ("mask", 1)
    mask = np.asarray(decode_mask(shape.points, image_width=size[0], image_height=size[1]), bool)
    assert (mask == (function.inspector(np.asarray(Image.open(query).convert("RGB"))).marks == 1)).all()
