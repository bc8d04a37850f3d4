"""Write one image and its mask into the data folder: byte for byte where they can stay as they are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lerenet.data.dataset import Row
from lerenet.data.encoding import encode_jpeg, write_encoded, write_mask
from lerenet.data.images import ImageFacts, image_facts, read_image
from lerenet.data.importing.found import Found
from lerenet.data.masks import measure_mask
from lerenet.data.names import nfc
from lerenet.data.pairs import read_marked
from lerenet.data.reading import ANY, Reading
from lerenet.data.scaling import Marks
from lerenet.files import shown


def place(item: Found, target: Path, table: Mapping[str, Row], asked: Reading) -> Row:
    """Write one image and its mask below ``target``; return its row of sources.csv.

    Args:
        item: the image.
        target: folder of the canonical layout.
        table: rows that the source's own sources.csv has, by file.
        asked: how its files are read, before what its rule says.

    Raises:
        DataError: a file that can't be used; the message names it.
    """
    reading = item.rule.read_as(asked)
    facts, masks = image_facts(item.image), _masks(item, reading)
    out = target / item.cls / ("Images" if masks else "Nd") / f"{item.stem}.jpg"
    out.parent.mkdir(parents=True, exist_ok=True)
    if masks:
        pixels, marks = read_marked(item.image, masks, reading, item.rule.resize_mask)
        _place_mask(target / item.cls / "GT" / f"{item.stem}.png", masks, marks)
    else:
        pixels = read_image(item.image, reading.bits)
    place_image(out, item.image, None if stays(facts) else encode_jpeg(pixels))
    return _row(item, out.relative_to(target).as_posix(), "defect" if masks else "clean", table)


def _masks(item: Found, reading: Reading) -> tuple[Path, ...]:
    """The masks of an image; none when it is clean, or its rule says that empty ones make it so."""
    if item.rule.empty_is_clean:
        whole = replace(reading, label=ANY if reading.label else "")  # another label is no clean image
        facts = [measure_mask(path, whole) for path in item.masks]
        return item.masks if any(fact.foreground or not fact.binary for fact in facts) else ()
    return item.masks


def stays(facts: ImageFacts) -> bool:
    """Whether the data folder has an image's file as it is: a plain upright JPEG."""
    return facts.format == "JPEG" and facts.mode in ("L", "RGB") and facts.orientation == 1


def place_image(out: Path, image: Path, encoded: bytes | None) -> None:
    """Write an image as the data folder has it: byte for byte, or ``encoded`` as a JPEG where it doesn't stay."""
    if encoded is None:
        shutil.copyfile(image, out)
    else:
        write_encoded(out, encoded)


def _place_mask(out: Path, masks: tuple[Path, ...], marks: Marks) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if len(masks) == 1 and _holds(masks[0], marks):
        shutil.copyfile(masks[0], out)
    else:
        write_mask(out, marks)


def _holds(path: Path, marks: Marks) -> bool:
    """Whether a file is a grey PNG of these very marks, 0 and 255, and ignores no pixel."""
    facts = image_facts(path)
    if (facts.format, facts.mode, facts.orientation) != ("PNG", "L", 1):
        return False
    return np.array_equal(read_image(path)[..., 0], marks.astype(np.int64) * 255)


def _row(item: Found, file: str, kind: str, table: Mapping[str, Row]) -> Row:
    before = table.get(nfc(shown(item.path)), {})
    return {
        "cls": item.cls,
        "kind": kind,
        "file": file,
        "group_id": before.get("group_id", shown(item.group)),
        "source": before.get("source", ""),
        "source_path": before.get("source_path", shown(item.path)),
        "provenance": before.get("provenance", "imported"),
    }
