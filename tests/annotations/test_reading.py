"""Exports written by hand, as the tools write them, are read as the tools mean them; each is detected."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lerenet.annotations import register
from lerenet.annotations.regions import AnnotatedImage
from tests.helpers.annotations import coco, cvat, grey, label_studio, labelme, save, voc, yolo

SIZE = (10, 20)  # height and width


def only(path: Path, kind: str) -> AnnotatedImage:
    assert register.detect(path) == kind
    (image,) = register.read(path, kind)
    return image


def marked(image: AnnotatedImage, name: str = "Scratch") -> np.ndarray:
    return image.of_class(name)


def block(top: int, bottom: int, left: int, right: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def test_coco_polygon_of_two_parts(tmp_path: Path) -> None:
    parts = [[2, 1, 6, 1, 6, 4, 2, 4], [10, 5, 12, 5, 12, 9, 10, 9]]
    image = only(save(tmp_path / "instances.json", coco(SIZE, parts, score=0.5)), "coco")
    assert (image.image, image.size) == ("part.png", SIZE)
    assert (marked(image) == block(1, 4, 2, 6) | block(5, 9, 10, 12)).all()
    assert image.regions[0].score == 0.5


def test_coco_crowd_with_counts_down_the_columns(tmp_path: Path) -> None:
    shape = {"size": [10, 20], "counts": [11, 3, 7, 3, 176]}
    image = only(save(tmp_path / "annotations" / "x.json", coco(SIZE, shape, iscrowd=1)), "coco")
    assert (marked(image) == block(1, 4, 1, 3)).all()
    assert register.detect(tmp_path) == "coco"


def test_labelme_shapes(tmp_path: Path) -> None:
    shapes = (
        {"points": [[1, 1], [4, 1], [4, 3], [1, 3]]},
        {"shape_type": "rectangle", "points": [[9, 8], [6, 5]], "label": "Dent"},
        {"shape_type": "circle", "points": [[15, 5], [18, 5]], "label": "Pit"},
        {"shape_type": "polygon", "points": [[0, 9], [20, 9], [20, 10], [0, 10]], "label": "__ignore__"},
    )
    image = only(save(tmp_path / "part.json", labelme(SIZE, *shapes)), "labelme")
    assert image.classes() == ["Scratch", "Dent", "Pit"]
    assert (marked(image) == block(1, 3, 1, 4)).all()
    assert (marked(image, "Dent") == block(5, 8, 6, 9)).all()
    rows, columns = np.mgrid[:10, :20] + 0.5
    assert (marked(image, "Pit") == (np.hypot(rows - 5, columns - 15) < 3)).all()
    assert marked(image, "Pit").sum() == pytest.approx(math.pi * 9, rel=0.15)
    assert image.ignored is not None
    assert (image.ignored == block(9, 10, 0, 20)).all()


def test_cvat_shapes_and_tags(tmp_path: Path) -> None:
    shapes = (
        '<polygon label="Scratch" occluded="0" source="manual" points="2.00,1.00;6.00,1.00;6.00,4.00;2.00,4.00"/>',
        '<box label="Dent" xtl="10.0" ytl="2.0" xbr="14.0" ybr="4.0" rotation="90.0">'
        '<attribute name="deep">yes</attribute></box>',
        '<mask label="Pit" rle="1, 2, 1, 2" left="4" top="6" width="3" height="2"/>',
        '<tag label="checked" source="manual"/>',
    )
    image = only(save(tmp_path / "annotations.xml", cvat(SIZE, *shapes)), "cvat")
    assert image.classes() == ["Scratch", "Dent", "Pit"]
    assert (marked(image) == block(1, 4, 2, 6)).all()
    assert (marked(image, "Dent") == block(1, 5, 11, 13)).all()
    assert np.argwhere(marked(image, "Pit")).tolist() == [[6, 5], [6, 6], [7, 5], [7, 6]]


def test_label_studio_polygons_and_rectangles_in_percent(tmp_path: Path) -> None:
    points = {"points": [[10, 10], [30, 10], [30, 40], [10, 40]], "closed": True}
    image = only(
        save(tmp_path / "a.json", label_studio(SIZE, "polygonlabels", points, score=0.75)), "label-studio"
    )
    assert image.image.endswith("1a2b3c4d-part.png")
    assert (marked(image) == block(1, 4, 2, 6)).all()
    assert image.regions[0].score == 0.75
    turned = {"x": 50, "y": 20, "width": 20, "height": 20, "rotation": 90}
    image = only(save(tmp_path / "a.json", label_studio(SIZE, "rectanglelabels", turned)), "label-studio")
    assert (marked(image) == block(2, 6, 8, 10)).all()  # about its upper left corner, (10, 2)


def test_label_studio_brush_bit_by_bit(tmp_path: Path) -> None:
    """Two pixels: one clear, one that a soft edge leaves at 200; values one by one, then a repeated one."""
    bits = f"{8:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    bits += "1" + "00" + "011" + f"{0:08b}"  # four times 0
    bits += "0" + "01" + "0011" + "".join(f"{value:08b}" for value in (9, 9, 9, 200))
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    value = label_studio((1, 2), "brushlabels", {"format": "rle", "rle": packed})
    value[0]["annotations"][0]["result"].append(
        {"type": "choices", "value": {"choices": ["bad"]}, "from_name": "c"}
    )
    value.append({"data": {"image": "s3://bucket/clean.png"}, "annotations": [{"result": []}]})
    image = only(save(tmp_path / "a.json", value), "label-studio")
    assert marked(image).tolist() == [[False, True]]


def test_label_studio_paths_of_local_files(tmp_path: Path) -> None:
    points = {"points": [[10, 10], [30, 10], [30, 40]]}
    value = label_studio(SIZE, "polygonlabels", points)
    value[0]["data"] = {"photo": "/data/local-files/?d=line/part.png"}
    value[0]["annotations"].append({"was_cancelled": True, "result": []})
    assert only(save(tmp_path / "a.json", value), "label-studio").image == "line/part.png"


def test_yolo_names_as_a_list_and_an_empty_file(tmp_path: Path) -> None:
    yolo(tmp_path, SIZE, "1 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4\n\n0 0.5 0.5 0.6 0.5 0.6 0.9 0.5 0.9\n")
    save(tmp_path / "data.yaml", "names: [Dent, Scratch]\nnc: 2\n")
    save(tmp_path / "valid/labels/clean.txt", "")
    grey(tmp_path / "valid/images/clean.png", 5, 6)
    part, clean = register.read(tmp_path, "yolo-seg")
    assert register.detect(tmp_path) == "yolo-seg"
    assert (marked(part) == block(1, 4, 2, 6)).all()
    assert (marked(part, "Dent") == block(5, 9, 10, 12)).all()
    assert (clean.size, clean.regions) == ((6, 5), ())


def test_voc_sets_colours_and_numbers_without_names(tmp_path: Path) -> None:
    numbers = np.zeros(SIZE, int)
    numbers[1:4, 2:6], numbers[8] = 1, 255
    voc(tmp_path, numbers, names="")
    assert only(tmp_path, "voc").classes() == ["class_1"]
    save(
        tmp_path / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nScratch:128,0,0::\n"
    )
    image = only(tmp_path, "voc")
    assert (marked(image) == block(1, 4, 2, 6)).all()
    save(tmp_path / "labelmap.txt", "ok:0,0,0::\nScratch:128,0,0::\n")  # black is none, whatever its name
    assert only(tmp_path, "voc").classes() == ["Scratch"]
    assert image.ignored is not None
    assert (image.ignored == block(8, 9, 0, 20)).all()
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "SegmentationClass/other.png")
    assert [one.image for one in register.read(tmp_path, "voc")] == ["other", "part"]
    save(tmp_path / "ImageSets/Segmentation/train.txt", "part\n")
    assert [one.image for one in register.read(tmp_path, "voc")] == ["part"]


def test_a_folder_of_files_is_read_in_order_and_others_are_passed_over(tmp_path: Path) -> None:
    for name in ("b", "a"):
        save(tmp_path / f"{name}.json", labelme(SIZE) | {"imagePath": f"{name}.png"})
    save(tmp_path / "settings.json", {"colour": "red"})
    save(tmp_path / "broken.json", "{")
    assert register.detect(tmp_path) == "labelme"
    assert [one.image for one in register.read(tmp_path, "labelme")] == ["a.png", "b.png"]


def test_what_is_no_export_is_none(tmp_path: Path) -> None:
    grey(tmp_path / "part.png", 8, 8)
    save(tmp_path / "page.xml", "<html/>")
    save(tmp_path / "notes.json", json.dumps([1, 2]))
    assert register.detect(tmp_path) is None
    assert register.detect(tmp_path / "part.png") is None
