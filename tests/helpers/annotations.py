"""Masks with holes, touching parts and one-pixel defects; exports of other tools, written in a few plain lines."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image

from lerenet.annotations.regions import AnnotatedImage, Region


def _with_shapes(base: np.ndarray) -> np.ndarray:
    """A ring with a spot in its hole, a diagonal of pixels that touch at corners, and what ``base`` adds."""
    mask = base.copy()
    mask[1:8, 1:8], mask[2:7, 2:7], mask[4, 4] = True, False, True
    mask[range(9, 13), range(2, 6)] = True
    return mask


small = st_numpy.arrays(bool, st_numpy.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))
shaped = st_numpy.arrays(bool, (14, 17), elements=st.booleans()).map(_with_shapes)
dots = st.tuples(st.integers(0, 11), st.integers(0, 6)).map(lambda at: _dot(*at))


def _dot(row: int, column: int) -> np.ndarray:
    mask = np.zeros((12, 7), dtype=bool)
    mask[row, column] = True
    return mask


masks = st.one_of(small, shaped, dots)


def pictured(mask: np.ndarray, score: float | None = None) -> AnnotatedImage:
    return AnnotatedImage("part.png", mask.shape, (Region("Scratch", mask, score),))


def save(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def grey(path: Path, width: int, height: int, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(60, 200, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def runs(bits: np.ndarray) -> list[int]:
    """Lengths of equal neighbours in a row of booleans, False first."""
    lengths = [(value, len(list(group))) for value, group in itertools.groupby(bits.tolist())]
    counts = [length for _, length in lengths]
    return [0, *counts] if lengths[0][0] else counts


def coco(size: tuple[int, int], segmentation: Any, **more: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "part.png", "height": size[0], "width": size[1]}],
        "categories": [{"id": 3, "name": "Scratch"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "segmentation": segmentation, **more}],
    }


def labelme(size: tuple[int, int], *shapes: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "5.5.0", "imagePath": "part.png", "imageHeight": size[0], "imageWidth": size[1],
        "shapes": [{"label": "Scratch", **shape} for shape in shapes],
    }  # fmt: skip


def cvat(size: tuple[int, int], *shapes: str) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta/>'
        f'<image id="0" name="part.png" width="{size[1]}" height="{size[0]}">{"".join(shapes)}</image></annotations>'
    )


def label_studio(size: tuple[int, int], kind: str, value: dict[str, Any], **more: Any) -> list[Any]:
    result = {
        "type": kind, "value": {kind: ["Scratch"], **value}, "original_height": size[0], "original_width": size[1],
        "image_rotation": 0, **more,
    }  # fmt: skip
    data = {"image": "/data/upload/4/1a2b3c4d-part.png"}
    return [{"id": 5, "data": data, "annotations": [{"id": 9, "was_cancelled": False, "result": [result]}]}]


def yolo(folder: Path, size: tuple[int, int], lines: str) -> Path:
    save(folder / "data.yaml", "names:\n  0: Dent\n  1: Scratch\n")
    save(folder / "train/labels/part.txt", lines)
    grey(folder / "train/images/part.jpg", size[1], size[0])
    return folder


def voc(folder: Path, numbers: np.ndarray, names: str = "_background_\nScratch\nDent\n") -> Path:
    image = Image.fromarray(numbers.astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 756 + [224, 224, 192])
    (folder / "SegmentationClass").mkdir(parents=True, exist_ok=True)
    image.save(folder / "SegmentationClass" / "part.png")
    if names:
        save(folder / "class_names.txt", names)
    return folder
