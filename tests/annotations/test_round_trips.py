"""What is written is read again pixel for pixel, and by the tools' own libraries where they are small."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image
from pycocotools import mask as tool
from pycocotools.coco import COCO

from lerenet.annotations import brush, coco, label_studio, labelme, register, rle, voc, yolo
from lerenet.annotations.outlines import outlines
from lerenet.annotations.regions import AnnotatedImage, Region
from tests.helpers import annotations as made
from tests.helpers.annotations import masks, pictured, runs, save

# pycocotools 2.0.11 decodes by a protocol that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def again(kind: str, value: object, name: str = "export.json") -> AnnotatedImage:
    with TemporaryDirectory() as folder:
        (image,) = register.read(save(Path(folder) / name, value), kind)
    return image


@settings(max_examples=150, deadline=None)
@given(masks)
def test_coco_instances(mask: np.ndarray) -> None:
    value = coco.instances([pictured(mask, 0.5)], ["Dent", "Scratch"])
    read = again("coco", value)
    assert (read.of_class("Scratch") == mask).all()
    assert [region.score for region in read.regions] == [0.5] * bool(mask.any())
    tooled = COCO()
    tooled.dataset = value
    tooled.createIndex()
    for one in tooled.loadAnns(tooled.getAnnIds()):
        assert (tooled.annToMask(one) == mask).all()
        assert one["bbox"] == tool.toBbox(tooled.annToRLE(one)).tolist()
        assert one["area"] == mask.sum()


@settings(max_examples=150, deadline=None)
@given(masks)
def test_coco_results_are_read_by_pycocotools_and_their_run_lengths_by_us(mask: np.ndarray) -> None:
    results = coco.results([pictured(mask, 0.25)], ["Scratch"])
    assert len(results) == bool(mask.any())
    for one in results:
        assert (tool.decode(one["segmentation"]) == mask).all()
        assert (one["score"], one["image_id"], one["category_id"]) == (0.25, 1, 1)
        read = again("coco", made.coco(mask.shape, one["segmentation"]))
        assert (read.of_class("Scratch") == mask).all()


@settings(max_examples=150, deadline=None)
@given(masks)
def test_coco_counts_plain_and_compressed(mask: np.ndarray) -> None:
    counts = runs(mask.T.ravel())
    read = again("coco", made.coco(mask.shape, {"size": list(mask.shape), "counts": counts}, iscrowd=1))
    assert (read.of_class("Scratch") == mask).all()
    assert rle.counts_of(rle.encode_text(mask)["counts"]) == counts


@settings(max_examples=150, deadline=None)
@given(masks)
def test_labelme_polygons(mask: np.ndarray) -> None:
    read = again("labelme", labelme.document(pictured(mask)))
    assert (read.of_class("Scratch") == mask).all()
    assert read.size == mask.shape


@settings(deadline=None)
@given(masks)
def test_labelme_mask_shapes(mask: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(file, "PNG")
    height, width = mask.shape
    shape = {"shape_type": "mask", "points": [[2, 1], [width + 1, height]],
             "mask": base64.b64encode(file.getvalue()).decode()}  # fmt: skip
    read = again("labelme", made.labelme((height + 3, width + 4), shape)).of_class("Scratch")
    assert (read[1 : height + 1, 2 : width + 2] == mask).all()
    assert read.sum() == mask.sum()


@settings(max_examples=150, deadline=None)
@given(masks)
def test_label_studio_brushes(mask: np.ndarray) -> None:
    (task,) = label_studio.tasks([pictured(mask, 0.5)], "model 3")
    (prediction,) = task["predictions"]
    assert len(prediction["result"]) == bool(mask.any())
    if prediction["result"]:
        read = again("label-studio", [{"data": task["data"], "annotations": [prediction]}])
        assert (read.of_class("Scratch") == mask).all()


def test_label_studio_runs_of_every_length() -> None:
    mask = np.zeros((300, 200), dtype=bool)
    for row, length in enumerate((1, 2, 3, 4, 5, 64, 65, 200)):
        mask[row, :length] = True
    mask[20:, :] = True  # more than one run can hold
    assert (brush.decode(brush.encode(mask), mask.shape) == mask).all()


@settings(max_examples=150, deadline=None)
@given(masks)
def test_cvat_masks_and_polygons(mask: np.ndarray) -> None:
    (height, width), counts = mask.shape, ", ".join(map(str, runs(mask.ravel())))
    shape = f'<mask label="Scratch" rle="{counts}" left="2" top="1" width="{width}" height="{height}" z_order="0"/>'
    read = again("cvat", made.cvat((height + 3, width + 4), shape), "annotations.xml").of_class("Scratch")
    assert (read[1 : height + 1, 2 : width + 2] == mask).all()
    assert read.sum() == mask.sum()
    rings = [";".join(f"{x:.2f},{y:.2f}" for x, y in ring) for ring in outlines(mask)]
    polygons = [f'<polygon label="Scratch" points="{ring}"/>' for ring in rings]
    read = again("cvat", made.cvat(mask.shape, *polygons), "annotations.xml").of_class("Scratch")
    assert (read == mask).all()


@settings(max_examples=30, deadline=None)
@given(masks)
def test_yolo_polygons(mask: np.ndarray) -> None:
    scale = np.array(mask.shape[::-1])
    rings = [" ".join(f"{share:.6f}" for share in (ring / scale).ravel()) for ring in outlines(mask)]
    with TemporaryDirectory() as folder:
        (read,) = yolo.read(
            made.yolo(Path(folder), mask.shape, "".join(f"1 {ring}\n" for ring in rings)) / "data.yaml"
        )
    assert (read.of_class("Scratch") == mask).all()
    assert read.image == "train/images/part.jpg"


@settings(max_examples=50, deadline=None)
@given(masks)
def test_voc_numbers_with_pixels_that_count_nowhere(mask: np.ndarray) -> None:
    numbers = np.where(mask, 2, 0)
    numbers[0, 0] = 255
    with TemporaryDirectory() as folder:
        (read,) = voc.read(made.voc(Path(folder), numbers))
    assert read.ignored is not None
    assert np.argwhere(read.ignored).tolist() == [[0, 0]]
    assert (read.of_class("Dent") == (numbers == 2)).all()


def test_several_images_and_classes_keep_apart() -> None:
    one, other = np.eye(6, dtype=bool), np.ones((4, 5), dtype=bool)
    images = [
        AnnotatedImage("a/x.png", one.shape, (Region("Scratch", one), Region("Dent", ~one))),
        AnnotatedImage("b/x.png", other.shape, (Region("Dent", other),)),
        AnnotatedImage("clean.png", (3, 3)),
    ]
    with TemporaryDirectory() as folder:
        path = save(Path(folder) / "instances.json", coco.instances(images, ["Scratch", "Dent"]))
        read = list(register.read(path, "coco"))
    assert [image.image for image in read] == ["a/x.png", "b/x.png", "clean.png"]
    assert [image.classes() for image in read] == [["Scratch", "Dent"], ["Dent"], []]
    assert (read[0].of_class("Dent") == ~one).all()
    assert read[2].size == (3, 3)
