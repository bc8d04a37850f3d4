"""Masks that were made, as files of other tools: which there are, and their content, one after the other."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lerenet.annotations import coco, label_studio, labelme
from lerenet.annotations.regions import AnnotatedImage
from lerenet.errors import DataError

WRITTEN = ("coco", "labelme", "label-studio")
INSTANCES, RESULTS = "annotations_coco.json", "annotations_coco_results.json"
TASKS = "annotations_label-studio.json"
SHAPES = "_shapes.json"  # of labelme, one an image; as long as the longest ending of an output name


def file_names(kinds: Sequence[str], names: Sequence[str]) -> list[str]:
    """The files that `documents` writes for images of these output names.

    Raises:
        DataError: a format that is not written; the message lists those that are.
    """
    for kind in kinds:
        if kind not in WRITTEN:
            raise DataError(f"--format {kind!r}: not written", f"one of {', '.join(WRITTEN)}")
    files = {
        "coco": [INSTANCES, RESULTS],
        "labelme": [name + SHAPES for name in names],
        "label-studio": [TASKS],
    }
    return [file for kind in dict.fromkeys(kinds) for file in files[kind]]


def documents(
    kinds: Sequence[str],
    images: Iterable[tuple[str, AnnotatedImage]],
    classes: Sequence[str],
    made_by: str,
    out: Path,
) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file.

    Args:
        kinds: of `WRITTEN`.
        images: output names and images, by the paths of their files; gone through once a file, so that one mask at a
            time is held.
        classes: all that a region may have, in the order of their numbers.
        made_by: name and version of the model.
        out: the folder where the files will lie; labelme finds an image from there.
    """
    if "coco" in kinds:
        yield INSTANCES, _encoded(coco.instances((image for _, image in images), classes))
        yield RESULTS, _encoded(coco.results((image for _, image in images), classes))
    if "label-studio" in kinds:
        yield TASKS, _encoded(label_studio.tasks((image for _, image in images), made_by))
    if "labelme" in kinds:
        for name, image in images:
            path = Path(os.path.relpath(os.path.realpath(image.image), os.path.realpath(out))).as_posix()
            yield name + SHAPES, _encoded(labelme.document(replace(image, image=path)))


def _encoded(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode() + b"\n"
