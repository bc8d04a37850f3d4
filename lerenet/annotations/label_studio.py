"""Label Studio: a JSON list of tasks, with annotations that people made or predictions to begin with.

Brushes are read from their run lengths, polygons and rectangles, in percent, are filled. Other regions with a shape
are refused; choices, texts and relations hold no pixels and are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lerenet.annotations.brush import decode, encode
from lerenet.annotations.node import Node, read_node
from lerenet.annotations.polygons import Ring, box, fill, ring_of, turned
from lerenet.annotations.regions import AnnotatedImage, Region, Size
from lerenet.data.scaling import Mask

DRAWN = ("brushlabels", "polygonlabels", "rectanglelabels")
OTHERS = (
    "brush", "polygon", "rectangle", "ellipse", "ellipselabels", "keypoint", "keypointlabels", "vector", "vectorlabels",
    "bitmask", "bitmasklabels", "magicwand",
)  # fmt: skip
ONE = "delete or cancel all but one of them in Label Studio, then export again"
DRAW = "draw it as a brush, a polygon or a rectangle with a label"


def is_label_studio(value: Any) -> bool:
    """Whether the top of a JSON file is that of an export of tasks."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "data" in value[0]


def read(path: Path) -> Iterator[AnnotatedImage]:
    """Every task that somebody annotated with regions; others have no size, and say nothing.

    Raises:
        DataError: a field that is missing or wrong, two annotations of one task, a shape that can't be filled, run
            lengths that are cut off; the message names file and entry.
    """
    for task in read_node(path):
        made = [one for one in task["annotations"] if not ((flag := one.get("was_cancelled")) and flag.value)]
        if len(made) > 1:
            raise task.error(f"{len(made)} annotations of one task: which one counts?", ONE)
        drawn = [one for annotation in made for one in annotation["result"] if _is_drawn(one)]
        if drawn:
            size = _size(drawn[0])
            regions = tuple(region for one in drawn for region in _regions(one, size))
            yield AnnotatedImage(_image(task), size, regions, source=task.place)


def _image(task: Node) -> str:
    """The path of the task's image, without what comes before it in an address."""
    data = task["data"]
    node = data.get("image") or next(
        (Node(data.path, data.where, value) for value in data.value.values() if isinstance(value, str)), data
    )
    return node.text().partition("?d=")[2] or node.text().partition("?")[0]


def _is_drawn(one: Node) -> bool:
    kind = one["type"].text()
    if kind in OTHERS:
        raise one.error(f"a region of type {kind!r} can't be read", DRAW)
    return kind in DRAWN


def _size(one: Node) -> Size:
    turn = one.get("image_rotation")
    if turn is not None and turn.number():
        raise turn.error(
            f"the image was turned by {turn.value} degrees", "turn it back, or turn the file itself"
        )
    return one.size("original_height", "original_width")


def _regions(one: Node, size: Size) -> Iterator[Region]:
    if _size(one) != size:
        raise one.error(f"{_size(one)} pixels, others of the task are on {size} (height, width)")
    kind, value = one["type"].text(), one["value"]
    names = [name.text() for name in value[kind]]
    if not names:
        raise value.error("has no label", "give it one, or delete it")
    try:
        mask = _mask(kind, value, size)
    except ValueError as error:
        raise value.error(error) from error
    score = one.get("score")
    for name in names:
        yield Region(name, mask, score.number() if score else None)


def _mask(kind: str, value: Node, size: Size) -> Mask:
    if kind == "brushlabels":
        return decode(value["rle"].numbers(), size)
    percent = np.array(size[::-1]) / 100
    if kind == "polygonlabels":
        return fill([ring_of(value["points"].numbers()) * percent], size)
    return fill([_rectangle(value, percent)], size)


def _rectangle(value: Node, percent: np.ndarray) -> Ring:
    """A rectangle, turned about its upper left corner."""
    corner = np.array([value["x"].number(), value["y"].number()]) * percent
    width, height = np.array([value["width"].number(), value["height"].number()]) * percent
    left, top = corner.tolist()
    ring = box(left, top, left + width, top + height)
    degrees = value.get("rotation")
    return turned(ring, corner, degrees.number()) if degrees else ring


def tasks(images: Iterable[AnnotatedImage], made_by: str) -> list[dict[str, Any]]:
    """Tasks with a prediction each, a brush a region, for a labelling set-up with ``tag`` and ``image``.

    Args:
        images: by the names or addresses that Label Studio finds them under.
        made_by: name and version of the model.
    """
    return [
        {
            "data": {"image": image.image},
            "predictions": [
                {
                    "model_version": made_by,
                    "score": max((region.score or 0.0 for region in image.regions), default=0.0),
                    "result": [
                        _result(number, region, image.size) for number, region in enumerate(image.marked(), 1)
                    ],
                }
            ],
        }
        for image in images
    ]


def _result(number: int, region: Region, size: Size) -> dict[str, Any]:
    return {
        "id": f"region{number}",
        "type": "brushlabels",
        "from_name": "tag",
        "to_name": "image",
        "original_height": size[0],
        "original_width": size[1],
        "image_rotation": 0,
        "value": {"format": "rle", "rle": encode(region.mask), "brushlabels": [region.name]},
        **({} if region.score is None else {"score": region.score}),
    }
