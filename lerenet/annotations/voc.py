"""Pascal VOC: a PNG of class numbers an image in SegmentationClass; 255 counts as nothing.

Names are those of ``labelmap.txt`` (a line a class, ``name:r,g,b:parts:actions``; the PNGs are then read by their
colours) or of ``class_names.txt`` (a line a class, the background first); without either, class 3 is ``class_3``.
Number 0, black where there are colours, and what is called background are no class. ImageSets/Segmentation, where it
is there, says which images count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lerenet.annotations.node import AGAIN
from lerenet.annotations.regions import AnnotatedImage, Region
from lerenet.data.images import decode, opened
from lerenet.errors import DataError
from lerenet.files import shown

FOLDER, SETS = "SegmentationClass", "ImageSets/Segmentation"
COLOURS, NAMES = "labelmap.txt", "class_names.txt"
BACKGROUND = ("background", "_background_", "__background__")
VOID = ("ignore", "ignored", "void", "__ignore__")  # names of what counts as nothing
VOID_COLOUR, VOID_NUMBER = 0xE0E0C0, 255


@dataclass(frozen=True)
class _Classes:
    """Names by number, or by packed colour."""

    names: Mapping[int, str]
    coloured: bool = False


def is_voc(path: Path) -> bool:
    """Whether a folder is laid out so."""
    return (path / FOLDER).is_dir()


def read(path: Path) -> Iterator[AnnotatedImage]:
    """Every image that has a PNG, or that the sets name.

    Args:
        path: the folder that holds SegmentationClass.

    Raises:
        DataError: a PNG that is missing or can't be read, a number or colour without a name; the message names the
            file.
    """
    if not is_voc(path):
        raise DataError(f"{shown(path)}: has no folder {FOLDER}", "give the folder that holds it")
    classes = _classes(path)
    for stem in _stems(path):
        yield _image(path / FOLDER / f"{stem}.png", stem, classes)


def _stems(path: Path) -> list[str]:
    listed = [
        line.split()[0]
        for table in sorted((path / SETS).glob("*.txt"))
        for line in table.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    return sorted(set(listed)) or sorted(one.stem for one in (path / FOLDER).glob("*.png"))


def _classes(path: Path) -> _Classes:
    if (path / COLOURS).is_file():
        return _Classes(_by_colour(path / COLOURS), coloured=True)
    if (path / NAMES).is_file():
        lines = (path / NAMES).read_text(encoding="utf-8").split("\n")
        names = [line.strip() for line in lines if line.strip() and line.strip() not in VOID]
        return _Classes(dict(enumerate(names)))
    return _Classes({0: BACKGROUND[0]} | {number: f"class_{number}" for number in range(1, VOID_NUMBER)})


def _by_colour(table: Path) -> dict[int, str]:
    names = {}
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, colour = line.split(":")[:2]
            red, green, blue = (int(part) for part in colour.split(","))
        except ValueError as error:
            raise DataError(f"{shown(table)}: line {number}: {line!r}", "write name:r,g,b::") from error
        names[red << 16 | green << 8 | blue] = name
    return names


def _image(path: Path, stem: str, classes: _Classes) -> AnnotatedImage:
    numbers = _numbers(path, classes.coloured)
    void = VOID_COLOUR if classes.coloured else VOID_NUMBER
    names = {void: VOID[0]} | dict(classes.names)
    regions, ignored = [], np.zeros(numbers.shape, dtype=bool)
    for number in np.unique(numbers).tolist():
        if number not in names:
            what = f"colour #{number:06x}" if classes.coloured else f"class number {number}"
            raise DataError(
                f"{shown(path)}: {what} has no name", f"write {COLOURS} or {NAMES} beside {FOLDER}"
            )
        if names[number].lower() in VOID:
            ignored |= numbers == number
        elif number and names[number].lower() not in BACKGROUND:
            regions.append(Region(names[number], numbers == number))
    return AnnotatedImage(
        stem, numbers.shape, tuple(regions), ignored if ignored.any() else None, shown(path)
    )


def _numbers(path: Path, coloured: bool) -> NDArray[np.int64]:
    """Class numbers, or packed colours, (H, W)."""
    with opened(path) as (image, _):
        image = decode(image, path)
        if coloured:
            red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(np.int64), -1, 0)
            return np.asarray(red << 16 | green << 8 | blue)
        if image.mode not in ("P", "L", "1"):
            raise DataError(f"{shown(path)}: colours, and no {COLOURS} that names them", AGAIN)
        return np.asarray(image).astype(np.int64)
