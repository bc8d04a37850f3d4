"""CVAT for images 1.1: one XML file; polygons, boxes and masks, each with its label."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np

from lerenet.annotations.node import AGAIN
from lerenet.annotations.polygons import box, fill, ring_of
from lerenet.annotations.regions import AnnotatedImage, Region, Size, size_of
from lerenet.annotations.rle import decode_rows
from lerenet.data.scaling import Mask
from lerenet.errors import DataError
from lerenet.files import shown

WITHOUT_PIXELS = ("tag",)
DRAW = "draw it as a polygon, a box or a mask"
ENTITIES = re.compile(rb"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)


def is_cvat(path: Path) -> bool:
    """Whether an XML file is one of CVAT."""
    try:
        with path.open("rb") as handle:
            _, root = next(Xml.iterparse(handle, events=("start",)))
    except (OSError, Xml.ParseError, StopIteration):
        return False
    return bool(root.tag == "annotations")


def read(path: Path) -> Iterator[AnnotatedImage]:
    """Every image of the file, also those without shapes.

    Raises:
        DataError: no XML, tracks of a video, a field that is missing or wrong, a shape without area or outside the
            image, run lengths that are cut off; the message names file, image and shape.
    """
    top = _parsed(path)
    if top.find("track") is not None:
        raise DataError(f"{shown(path)}: holds the tracks of a video", "export it as 'CVAT for images 1.1'")
    for image in top.iter("image"):
        name = image.get("name", "")
        place = f"{shown(path)}: image {name!r}"
        try:
            size = size_of(_whole(image, "height"), _whole(image, "width"))
            regions = tuple(_region(shape, size) for shape in image if shape.tag not in WITHOUT_PIXELS)
        except ValueError as error:
            raise DataError(f"{place}: {error}", AGAIN) from error
        yield AnnotatedImage(name, size, regions, source=place)


def _parsed(path: Path) -> Xml.Element:
    try:
        content = path.read_bytes()
        if ENTITIES.search(content):
            raise DataError(f"{shown(path)}: declares entities, as no export of CVAT does", AGAIN)
        return Xml.fromstring(content)
    except OSError as error:
        raise DataError(
            f"{shown(path)}: can't be read: {error.strerror}", "give the export's file"
        ) from error
    except Xml.ParseError as error:
        raise DataError(f"{shown(path)}: not valid XML: {error}", AGAIN) from error


def _region(shape: Xml.Element, size: Size) -> Region:
    name = shape.get("label", "")
    try:
        if not name:
            raise ValueError("has no label")
        return Region(name, _mask(shape, size))
    except ValueError as error:
        raise ValueError(f"{shape.tag} {name!r}: {error}") from error


def _mask(shape: Xml.Element, size: Size) -> Mask:
    if shape.tag == "polygon":
        pairs = _text(shape, "points").replace(";", ",").split(",")
        return fill([ring_of([float(number) for number in pairs])], size)
    if shape.tag == "box":
        left, top, right, bottom = (_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        return fill([box(left, top, right, bottom, float(shape.get("rotation", 0)))], size)
    if shape.tag == "mask":
        return _placed(shape, size)
    raise ValueError(f"can't be read; {DRAW}")


def _placed(shape: Xml.Element, size: Size) -> Mask:
    """Run lengths, row by row, within a box."""
    left, top, width, height = (_whole(shape, key) for key in ("left", "top", "width", "height"))
    if left + width > size[1] or top + height > size[0]:
        raise ValueError(
            f"its box up to ({left + width}, {top + height}) is outside the image of {size[1]} x {size[0]} pixels"
        )
    mask: Mask = np.zeros(size, dtype=bool)
    counts = [float(count) for count in _text(shape, "rle").split(",")]
    mask[top : top + height, left : left + width] = decode_rows(counts, (height, width))
    return mask


def _text(element: Xml.Element, key: str) -> str:
    value = element.get(key)
    if not value:
        raise ValueError(f"has no {key!r}")
    return value


def _number(element: Xml.Element, key: str) -> float:
    return float(_text(element, key))


def _whole(element: Xml.Element, key: str) -> int:
    number = _number(element, key)
    if number != number // 1 or number < 0:
        raise ValueError(f"{key} {number:g} is no whole number from 0 on")
    return int(number)
