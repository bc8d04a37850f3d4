"""COCO: one JSON file of images, categories and annotations; results as a list beside it.

Crowds are regions like others: what is marked is of the class. Polygons are filled by
`lerenet.annotations.polygons`; pycocotools rounds otherwise at slanted edges, by pixels of the edge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lerenet.annotations.node import Node, read_node
from lerenet.annotations.outlines import outlines
from lerenet.annotations.polygons import fill, ring_of
from lerenet.annotations.regions import AnnotatedImage, Region, Size
from lerenet.annotations.rle import decode_counts, decode_text, encode_text
from lerenet.data.scaling import Mask

PART = "polygons or run lengths are needed; a box alone says nothing of pixels"


def is_coco(value: Any) -> bool:
    """Whether the top of a JSON file is that of COCO's instances."""
    return isinstance(value, dict) and {"images", "annotations", "categories"} <= value.keys()


def read(path: Path) -> Iterator[AnnotatedImage]:
    """Every image of an instances file, also those without annotations.

    Raises:
        DataError: a field that is missing or wrong, an unknown image or category, a polygon outside the image, run
            lengths that are cut off; the message names file and entry.
    """
    top = read_node(path)
    names = {number: one["name"].text() for number, one in _by_id(top["categories"]).items()}
    images = _by_id(top["images"])
    by_image: dict[int, list[Node]] = defaultdict(list)
    for one in top["annotations"]:
        if one["image_id"].whole() not in images:
            raise one["image_id"].error(f"no image has the id {one['image_id'].value}")
        by_image[one["image_id"].whole()].append(one)
    for number, image in images.items():
        size = image.size("height", "width")
        regions = tuple(_region(one, names, size) for one in by_image[number])
        yield AnnotatedImage(image["file_name"].text(), size, regions, source=image.place)


def _by_id(nodes: Iterable[Node]) -> dict[int, Node]:
    by_id: dict[int, Node] = {}
    for one in nodes:
        number = one["id"].whole()
        if number in by_id:
            raise one["id"].error(f"{by_id[number].where} has the id {number}, too")
        by_id[number] = one
    return by_id


def _region(one: Node, names: Mapping[int, str], size: Size) -> Region:
    category = one["category_id"]
    if category.whole() not in names:
        raise category.error(f"no category has the id {category.value}")
    score = one.get("score")
    return Region(names[category.whole()], _mask(one, size), score.number() if score else None)


def _mask(one: Node, size: Size) -> Mask:
    shape = one.get("segmentation")
    if shape is None or not shape.value:
        raise one.error("has no segmentation", PART)
    try:
        if isinstance(shape.value, list):
            return fill([ring_of(part.numbers()) for part in shape], size)
        if tuple(shape["size"].numbers()) != size:
            raise ValueError(f"size {shape['size'].value}, its image's is {list(size)} (height, width)")
        counts = shape["counts"]
        return (
            decode_text(counts.text(), size)
            if isinstance(counts.value, str)
            else decode_counts(counts.numbers(), size)
        )
    except ValueError as error:
        raise shape.error(error) from error


def instances(images: Iterable[AnnotatedImage], classes: Sequence[str]) -> dict[str, Any]:
    """COCO's instances: one annotation a region, its parts as polygons along the pixels' edges."""
    pictures: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, 1):
        height, width = image.size
        pictures.append({"id": number, "file_name": image.image, "height": height, "width": width})
        for region in image.marked():
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": classes.index(region.name) + 1,
                    "segmentation": [ring.ravel().tolist() for ring in outlines(region.mask)],
                    "area": int(region.mask.sum()),
                    "bbox": _box(region.mask),
                    "iscrowd": 0,
                    **_score(region),
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    return {"images": pictures, "categories": categories, "annotations": annotations}


def results(images: Iterable[AnnotatedImage], classes: Sequence[str]) -> list[dict[str, Any]]:
    """COCO's results, with the ids of `instances`: run lengths and a score (1 where there is none)."""
    return [
        {
            "image_id": number,
            "category_id": classes.index(region.name) + 1,
            "segmentation": encode_text(region.mask),
            "score": 1.0 if region.score is None else region.score,
        }
        for number, image in enumerate(images, 1)
        for region in image.marked()
    ]


def _score(region: Region) -> dict[str, float]:
    return {} if region.score is None else {"score": region.score}


def _box(mask: Mask) -> list[int]:
    """Left, top, width and height of what is marked."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
