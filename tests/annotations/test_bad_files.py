"""What can't be read right is refused, with the file, the entry and the reason."""

from __future__ import annotations

import base64
import copy
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lerenet.annotations import brush, register
from lerenet.annotations.rle import decode_text, encode_text
from lerenet.errors import DataError
from tests.helpers.annotations import coco, cvat, label_studio, labelme, save, voc, yolo

SIZE = (10, 20)  # height and width
SQUARE = [2, 1, 6, 1, 6, 4, 2, 4]
MASK = np.eye(10, 20, dtype=bool)


def png(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def twice(what: str) -> dict[str, Any]:
    value = coco(SIZE, [SQUARE])
    value[what] *= 2
    return value


def unknown_image() -> dict[str, Any]:
    value = coco(SIZE, [SQUARE])
    value["annotations"][0]["image_id"] = 8
    return value


CUT = encode_text(MASK)
CUT = CUT | {"counts": CUT["counts"][:-1]}
DRAWN = {"shape_type": "mask", "points": [[0, 0], [9, 9]]}
TWICE = label_studio(SIZE, "polygonlabels", {"points": [[10, 10], [30, 10], [30, 40]]})
TWICE[0]["annotations"] *= 2
BRUSH = brush.encode(MASK)
POLYGON = '<polygon label="Scratch" points="{}"/>'
BAD: dict[str, tuple[str, Any, str]] = {
    "coco category": (
        "coco",
        coco(SIZE, [SQUARE], category_id=4),
        r"annotations\[0\].category_id: no category has the id 4",
    ),
    "coco image": ("coco", unknown_image(), r"annotations\[0\].image_id: no image has the id 8"),
    "coco images": ("coco", twice("images"), r"images\[1\].id: images\[0\] has the id 7, too"),
    "coco categories": (
        "coco",
        twice("categories"),
        r"categories\[1\].id: categories\[0\] has the id 3, too",
    ),
    "coco outside": (
        "coco",
        coco(SIZE, [[*SQUARE, 25, 3]]),
        r"annotations\[0\].segmentation: corner \(25, 3\) is outside",
    ),
    "coco odd": ("coco", coco(SIZE, [[*SQUARE, 25]]), r"segmentation: 9 numbers are no pairs"),
    "coco size": (
        "coco",
        coco(SIZE, {"size": [20, 10], "counts": [200]}),
        r"segmentation: size \[20, 10\], its image's is \[10, 20\]",
    ),
    "coco short": (
        "coco",
        coco(SIZE, {"size": [10, 20], "counts": [11, 3]}),
        r"segmentation: run lengths of 14 pixels, the size says 200: cut off",
    ),
    "coco negative": (
        "coco",
        coco(SIZE, {"size": [10, 20], "counts": [-1, 201]}),
        r"segmentation: a run length is no whole number",
    ),
    "coco cut": ("coco", coco(SIZE, CUT), r"annotations\[0\].segmentation: .*cut off"),
    "coco letters": (
        "coco",
        coco(SIZE, {"size": [10, 20], "counts": "é"}),
        r"segmentation: 'é' is no letter",
    ),
    "coco box alone": ("coco", coco(SIZE, [], bbox=[1, 2, 3, 4]), r"annotations\[0\]: has no segmentation"),
    "coco text": (
        "coco",
        coco(SIZE, [["1", *SQUARE[1:]]]),
        r"annotations\[0\].segmentation\[0\]\[0\]: '1' is no number",
    ),
    "labelme line": (
        "labelme",
        labelme(SIZE, {"shape_type": "linestrip", "points": [[1, 1], [5, 5]]}),
        r"shapes\[0\]: a linestrip has no area",
    ),
    "labelme points": ("labelme", labelme(SIZE, {"points": [[1, 1], [5, 5]]}), r"shapes\[0\]: 2 corners"),
    "labelme outside": (
        "labelme",
        labelme(SIZE, {"shape_type": "rectangle", "points": [[1, 1], [5, 12]]}),
        r"shapes\[0\]: corner \(5, 12\)",
    ),
    "labelme no size": ("labelme", labelme(SIZE) | {"imageHeight": None}, r"has no 'imageHeight'"),
    "labelme huge": ("labelme", labelme((10**6, 10**6)), r"a size of 1000000 x 1000000 pixels"),
    "cvat empty": ("cvat", cvat((0, 20)), r"image 'part.png': a size of 20 x 0 pixels"),
    "labelme patch": (
        "labelme",
        labelme(SIZE, DRAWN | {"mask": png(MASK)}),
        r"shapes\[0\]: a mask of 20 x 10 pixels, its points span 10 x 10",
    ),
    "labelme beyond": (
        "labelme",
        labelme(SIZE, {"shape_type": "mask", "points": [[15, 0], [34, 9]], "mask": png(MASK)}),
        r"outside the image",
    ),
    "labelme base64": (
        "labelme",
        labelme(SIZE, DRAWN | {"mask": "no!"}),
        r"shapes\[0\].mask: no PNG in base64",
    ),
    "labelme cut": (
        "labelme",
        labelme(SIZE, DRAWN | {"mask": png(MASK)[:60]}),
        r"shapes\[0\].mask: no PNG in base64",
    ),
    "cvat outside": (
        "cvat",
        cvat(SIZE, POLYGON.format("1,1;30,1;3,3")),
        r"image 'part.png': polygon 'Scratch': corner \(30, 1\)",
    ),
    "cvat numbers": (
        "cvat",
        cvat(SIZE, POLYGON.format("1,a;30,1;3,3")),
        r"polygon 'Scratch': could not convert",
    ),
    "cvat line": (
        "cvat",
        cvat(SIZE, '<polyline label="Scratch" points="1,1;2,2"/>'),
        r"polyline 'Scratch': can't be read",
    ),
    "cvat cut": (
        "cvat",
        cvat(SIZE, '<mask label="Scratch" rle="1, 2" left="1" top="1" width="3" height="2"/>'),
        r"mask 'Scratch': run lengths of 3 pixels, the size says 6",
    ),
    "cvat beyond": (
        "cvat",
        cvat(SIZE, '<mask label="Scratch" rle="0, 6" left="18" top="1" width="3" height="2"/>'),
        r"mask 'Scratch': its box up to \(21, 3\)",
    ),
    "cvat entity": (
        "cvat",
        "<!DOCTYPE a [<!ENTITY b 'c'>]>" + cvat(SIZE).partition("\n")[2],
        r"declares entities",
    ),
    "cvat cut file": ("cvat", cvat(SIZE)[:-20], r"not valid XML"),
    "cvat video": ("cvat", '<annotations><track id="0"/></annotations>', r"tracks of a video"),
    "studio cut": (
        "label-studio",
        label_studio(SIZE, "brushlabels", {"rle": BRUSH[:-3]}),
        r"\[0\].annotations\[0\].result\[0\].value: .*cut off",
    ),
    "studio size": (
        "label-studio",
        label_studio((20, 20), "brushlabels", {"rle": BRUSH}),
        r"value: 200 pixels, the size says 400",
    ),
    "studio bytes": (
        "label-studio",
        label_studio(SIZE, "brushlabels", {"rle": [1, 300]}),
        r"value: a run length's byte",
    ),
    "studio outside": (
        "label-studio",
        label_studio(SIZE, "polygonlabels", {"points": [[1, 1], [130, 1], [5, 9]]}),
        r"value: corner \(26, 0.1\)",
    ),
    "studio ellipse": (
        "label-studio",
        label_studio(SIZE, "ellipselabels", {"x": 1}),
        r"result\[0\]: a region of type 'ellipselabels'",
    ),
    "studio turned": (
        "label-studio",
        label_studio(SIZE, "brushlabels", {"rle": BRUSH}, image_rotation=90),
        r"image_rotation: the image was turned",
    ),
    "studio unlabelled": (
        "label-studio",
        label_studio(SIZE, "brushlabels", {"rle": BRUSH, "brushlabels": []}),
        r"value: has no label",
    ),
    "studio twice": ("label-studio", TWICE, r"\[0\]: 2 annotations of one task"),
    "studio short form": ("label-studio", [{"data": {"image": "a.png"}}], r"\[0\]: has no 'annotations'"),
    "no json": ("coco", "{", r"not valid JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_by_file_and_entry(name: str, tmp_path: Path) -> None:
    kind, value, reason = BAD[name]
    path = save(tmp_path / f"export{register.FILES[kind]}", value)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + reason) as refused:
        list(register.read(path, kind))
    assert refused.value.remedy


WHOLE: dict[str, Any] = {
    "coco": coco(SIZE, [SQUARE], score=0.5) | {"info": {}},
    "coco counts": coco(SIZE, {"size": [10, 20], "counts": [11, 3, 186]}),
    "coco text": coco(SIZE, encode_text(MASK)),
    "labelme": labelme(
        SIZE, {"points": [[1, 1], [5, 5], [1, 5]]}, {"shape_type": "circle", "points": [[5, 5], [6, 6]]}
    ),
    "labelme mask": labelme(SIZE, {"shape_type": "mask", "points": [[0, 0], [19, 9]], "mask": png(MASK)}),
    "label-studio": label_studio(SIZE, "brushlabels", {"rle": BRUSH}),
    "label-studio box": label_studio(
        SIZE, "rectanglelabels", {"x": 1, "y": 1, "width": 9, "height": 9, "rotation": 9}
    ),
}
JUNK = st.sampled_from(
    [
        None,
        True,
        -1,
        0.5,
        10**30,
        float("inf"),
        float("nan"),
        "",
        "x",
        "polygon",
        [],
        [[]],
        [1, 2],
        {},
        {"a": 1},
    ]
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("name", WHOLE)
def test_whatever_stands_in_a_field_it_is_read_or_refused(
    name: str, data: st.DataObject, tmp_path: Path
) -> None:
    value = copy.deepcopy(WHOLE[name])
    spot: Any = value
    while True:
        key = data.draw(st.sampled_from(list(spot) if isinstance(spot, dict) else range(len(spot))))
        if not isinstance(spot[key], dict | list) or not spot[key] or data.draw(st.booleans()):
            break
        spot = spot[key]
    spot[key] = data.draw(JUNK)
    try:
        list(register.read(save(tmp_path / "export.json", value), name.split()[0]))
    except DataError as error:
        assert "export.json" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("7 0 0 1 0 1 1", "no class has the number 7"),
        ("0 0.5 0.5 0.2 0.2", "a box"),
        ("0 0 0 1 0 1", "no pairs"),
        ("0 0 0 2 0 1 1", r"corner \(40, 0\) is outside"),
        ("0 0 0 nan 0 1 1", "finite"),
        ("Dent 0 0 1 0 1 1", "invalid literal"),
    ],
)
def test_lines_of_yolo(line: str, reason: str, tmp_path: Path) -> None:
    yolo(tmp_path, SIZE, f"0 0 0 1 0 1 1\n{line}\n")
    with pytest.raises(DataError, match=rf"part.txt: line 2: .*{reason}"):
        list(register.read(tmp_path, "yolo-seg"))


def test_a_yolo_image_that_is_missing_and_a_folder_without_names(tmp_path: Path) -> None:
    yolo(tmp_path, SIZE, "")
    (tmp_path / "train/images/part.jpg").unlink()
    with pytest.raises(DataError, match=r"part.txt: its image train/images/part.\* is missing"):
        list(register.read(tmp_path, "yolo-seg"))
    save(tmp_path / "data.yaml", "nc: 3")
    with pytest.raises(DataError, match=r"data.yaml: has no list of names"):
        list(register.read(tmp_path, "yolo-seg"))


def test_voc_numbers_and_colours_without_a_name_and_missing_files(tmp_path: Path) -> None:
    voc(tmp_path, np.full(SIZE, 9))
    with pytest.raises(DataError, match=r"part.png: class number 9 has no name"):
        list(register.read(tmp_path, "voc"))
    save(tmp_path / "labelmap.txt", "background:0,0,9::\n")
    with pytest.raises(DataError, match=r"part.png: colour #000000 has no name"):
        list(register.read(tmp_path, "voc"))
    save(tmp_path / "labelmap.txt", "background\n")
    with pytest.raises(DataError, match=r"labelmap.txt: line 1"):
        list(register.read(tmp_path, "voc"))
    (tmp_path / "labelmap.txt").unlink()
    save(tmp_path / "ImageSets/Segmentation/train.txt", "gone\n")
    with pytest.raises(DataError, match=r"gone.png: not found"):
        list(register.read(tmp_path, "voc"))


@pytest.mark.parametrize("cut", range(1, 6))
def test_compressed_counts_that_are_cut_never_pass(cut: int) -> None:
    mask = np.random.default_rng(cut).random((30, 40)) > 0.5
    text = encode_text(mask)["counts"][:-cut]
    with pytest.raises(ValueError, match="cut off"):
        decode_text(text, mask.shape)


def test_folders_of_two_formats_and_unknown_names_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.json", labelme(SIZE))
    with pytest.raises(DataError, match="holds no coco file"):
        list(register.read(tmp_path, "coco"))
    save(tmp_path / "b.json", coco(SIZE, [SQUARE]))
    with pytest.raises(DataError, match="coco and labelme"):
        register.detect(tmp_path)
    with pytest.raises(DataError, match="'tiff': no annotation format"):
        list(register.read(tmp_path, "tiff"))
