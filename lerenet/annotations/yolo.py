"""YOLO segmentation: data.yaml with the classes' names, and a text file an image, a polygon a line.

``labels/…/a.txt`` belongs to the image ``images/…/a.*``. A line is a class's number and the polygon's corners, x and
y as shares of the image's width and height. An image without a text file is left out, one with an empty file has no
region.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from lerenet.annotations.node import AGAIN
from lerenet.annotations.polygons import fill, ring_of
from lerenet.annotations.regions import AnnotatedImage, Region, Size
from lerenet.data.images import SUFFIXES, image_facts, image_size
from lerenet.data.listing import list_files
from lerenet.errors import DataError, refuse
from lerenet.files import shown
from lerenet.yaml_file import read_yaml

NAMES = "data.yaml"
IMAGES, LABELS = "images", "labels"
BOX = 5  # numbers of a line that is a box
POLYGONS = "export polygons (segmentation); a box says nothing of pixels"


def read(path: Path) -> Iterator[AnnotatedImage]:
    """Every image that a text file tells of.

    Args:
        path: data.yaml, or the folder that holds it.

    Raises:
        DataError: no names, an unknown class, an image that is not there or that EXIF turns, a box, a polygon
            outside the image; the message names file and line.
    """
    table = path / NAMES if path.is_dir() else path
    folder, names = table.parent, _names(table)
    problems: list[str] = []
    files = list_files(folder, problems)
    refuse(problems, "mend the links")
    texts = [name for name in files if name.endswith(".txt") and LABELS in PurePosixPath(name).parts[:-1]]
    if not texts:
        raise DataError(f"{shown(folder)}: no text file in a folder {LABELS}", AGAIN)
    stems = {name.rpartition(".")[0]: name for name in files if name.lower().endswith(SUFFIXES)}
    for name in texts:
        image = stems.get(_beside(name))
        if image is None:
            raise DataError(f"{shown(folder / name)}: its image {_beside(name)}.* is missing", AGAIN)
        if image_facts(folder / image).orientation != 1:
            raise DataError(
                f"{shown(folder / image)}: EXIF turns it, and shares of its sides don't say which way it was drawn on",
                "save the photo upright, without EXIF orientation, and export it again",
            )
        width, height = image_size(folder / image)
        regions = tuple(_regions(folder / name, names, (height, width)))
        yield AnnotatedImage(image, (height, width), regions, source=shown(folder / name))


def _names(table: Path) -> Mapping[int, str]:
    try:
        raw = read_yaml(table)
    except FileNotFoundError as error:
        raise DataError(f"{shown(table)}: not found", "give the folder that holds it") from error
    names = raw.get("names") if isinstance(raw, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(number, int) for number in names):
        raise DataError(f"{shown(table)}: has no list of names", "write names: [Scratch, Dent, …]")
    return {number: str(name) for number, name in names.items()}


def _beside(name: str) -> str:
    """The path of the image of a text file, without suffix: with ``images`` for the last ``labels``."""
    parts = list(PurePosixPath(name).with_suffix("").parts)
    place = len(parts) - 2 - parts[-2::-1].index(LABELS)
    return "/".join([*parts[:place], IMAGES, *parts[place + 1 :]])


def _regions(path: Path, names: Mapping[int, str], size: Size) -> Iterator[Region]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(path)}: can't be read: {error}", AGAIN) from error
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                yield _region(line.split(), names, size)
        except ValueError as error:
            raise DataError(f"{shown(path)}: line {number}: {error}", AGAIN) from error


def _region(words: list[str], names: Mapping[int, str], size: Size) -> Region:
    cls = int(words[0])
    if cls not in names:
        raise ValueError(f"no class has the number {cls}; {NAMES} has {', '.join(map(str, names))}")
    if len(words) == BOX:
        raise ValueError(f"a box; {POLYGONS}")
    ring = ring_of([float(word) for word in words[1:]]) * np.array(size[::-1])
    return Region(names[cls], fill([ring], size))
