"""Masks from files, in every shape that a tool writes them: the defect's pixels, or refused with the labels found.

What a file holds is judged by its raw values (grey values, palette numbers, colours) before anything is reduced to
brightness, so that two labels are never taken for one (`lerenet.data.labels`). Pixels to ignore are those of the label
that a person says, or of PASCAL VOC's void: number 255 of a palette that gives it VOC's colour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from lerenet.data.images import ImageFacts, decode, opened, orientation, upright
from lerenet.data.labels import (
    Colours,
    Mask,
    Numbers,
    drawing,
    from_colours,
    from_numbers,
    of_colour,
    of_number,
    present_in,
)
from lerenet.data.reading import PLAIN, Reading
from lerenet.data.scaling import IGNORED, VOID, VOID_COLOUR, Marks
from lerenet.data.tones import DEEP, WHITE_IS_ZERO, tag
from lerenet.errors import DataError
from lerenet.files import shown

LOSSY = ("JPEG", "MPO")
FEW = 16  # present palette numbers: more are the shades of a picture, judged by their colours
BINARY = "save the mask with 0 for background and 255 for the defect"


@dataclass(frozen=True)
class MaskFacts:
    """A mask's size in pixels, whether it is clearly two-valued, and its defect's share (0..1)."""

    width: int
    height: int
    binary: bool
    foreground: float
    canonical: bool  # an upright grey PNG that holds nothing but 0 and 255


def read_mask(path: Path, reading: Reading = PLAIN) -> Mask:
    """The defect alone of `read_marks`, (H, W) of true and false."""
    return read_marks(path, reading) > 0


def read_marks(path: Path, reading: Reading = PLAIN) -> Marks:
    """Decode a mask, shape (H, W), upright by its own EXIF: 1 on the defect, `IGNORED` where a pixel is to be ignored.

    Two-valued files (0 and 255, 0 and 1, two colours one of which is black, a drawing of one colour on a
    transparent ground) are read as they are. Noise of JPEG and soft edges are cut at half. An empty mask is empty.

    Raises:
        DataError: not an image, truncated, too large; several labels and none chosen by ``reading``; grey areas
            (a photo); no background.
    """
    marks, _, _ = _marks_or_reason(path, reading)
    if isinstance(marks, DataError):
        raise marks
    return marks


def measure_mask(path: Path, reading: Reading = PLAIN) -> MaskFacts:
    """Size, share of defect and whether the mask is two-valued; several labels are told, not refused.

    Raises:
        DataError: not an image, truncated or too large.
    """
    marks, facts, canonical = _marks_or_reason(path, reading)
    binary = not isinstance(marks, DataError)
    share = 0.0 if isinstance(marks, DataError) else float((marks > 0).mean())
    return MaskFacts(facts.width, facts.height, binary, share, canonical)


def _marks_or_reason(path: Path, reading: Reading) -> tuple[Marks | DataError, ImageFacts, bool]:
    with opened(path) as (image, facts):
        image = decode(image, path)
        lossy = image.format in LOSSY or (image.format == "WEBP" and not _lossless(path))
        turned = upright(image, orientation(image))
        plain = image.format == "PNG" and image.mode == "L" and facts.orientation == 1
        try:
            mask, ignored = _find(turned, image, reading, lossy)
            found = (mask ^ reading.inverted).astype(np.int8)
            found[ignored] = IGNORED
            marks: Marks | DataError = found
        except DataError as error:
            marks = DataError(f"{shown(path)}: {error.what}", error.remedy or BINARY)
        values = np.asarray(image) if plain else None
    canonical = values is not None and not ((values > 0) & (values < 255)).any()
    return marks, facts, canonical


def _lossless(path: Path) -> bool:
    """Whether a WebP file holds a lossless picture (a VP8L chunk, plain or extended)."""
    head = path.read_bytes()[:65536] if path.stat().st_size < 65536 else _head(path)
    return b"VP8L" in head and b"VP8 " not in head


def _head(path: Path) -> bytes:
    with path.open("rb") as handle:
        return handle.read(65536)


def _find(image: Image.Image, source: Image.Image, reading: Reading, lossy: bool) -> tuple[Mask, Mask]:
    """The defect in an upright ``image``, and what is to be ignored; ``source`` is the file as opened, for its tags."""
    if image.mode == "F":
        raise DataError("a mask of real numbers", "save it as 8-bit grey, 0 and 255")
    if image.has_transparency_data:
        colours = np.asarray(_rgba(image))
        if not (colours[..., 3] == 255).all():
            stroke = reading.ignore if reading.ignore.startswith("#") else ""
            return drawing(colours, reading, lossy), of_colour(colours, stroke) & (colours[..., 3] > 0)
        return from_colours(colours[..., :3], reading, lossy), of_colour(colours, reading.ignore)
    if image.mode == "P":
        return _palette(image, reading)
    if image.mode in ("1", "L", "I", *DEEP):
        numbers = np.asarray(image.convert("L") if image.mode == "1" else image).astype(np.int64)
        if image.mode in DEEP and tag(source, 262) == WHITE_IS_ZERO:
            numbers = 65535 - numbers
        return from_numbers(numbers, reading, lossy), of_number(numbers, reading.ignore)
    colours = np.asarray(image.convert("RGB"))
    return from_colours(colours, reading, lossy), of_colour(colours, reading.ignore)


def _rgba(image: Image.Image) -> Image.Image:
    straight = image.convert(image.mode.upper()) if image.mode in ("La", "RGBa") else image
    return straight.convert("RGBA")


def _palette(image: Image.Image, reading: Reading) -> tuple[Mask, Mask]:
    """By the palette's numbers: colours of a palette may be dark, or all the same."""
    numbers = np.asarray(image).astype(np.int64)
    present = present_in(numbers)
    table = np.zeros((256, 3), np.uint8)
    colours = np.asarray(image.getpalette() or [], np.uint8).reshape(-1, 3)[:256]
    table[: len(colours)] = colours
    if not reading.ignore and VOID in present and tuple(table[VOID]) == VOID_COLOUR:
        reading = replace(reading, ignore=str(VOID))
    if reading.ignore.isdigit():
        return _by_number(numbers, present, table, reading), numbers == int(reading.ignore)
    return _by_number(numbers, present, table, reading), of_colour(table[numbers], reading.ignore)


def _by_number(numbers: Numbers, present: Numbers, table: Colours, reading: Reading) -> Mask:
    """The defect among numbers (H, W) of a palette (256, 3)."""
    shades = (
        len(np.unique(table[present], axis=0)) == len(present)
        and (table[present].min(1) == table[present].max(1)).all()
    )
    if shades and not (reading.label.isdigit() or reading.ignore.isdigit()):
        return from_numbers(table[numbers][..., 0].astype(np.int64), reading, False)
    if len(present) > FEW and not (reading.label or reading.ignore):
        return from_colours(table[numbers], reading, False)
    black = [int(number) for number in present if not table[number].any()]
    if not black and len(present) > 1:
        raise DataError(
            f"a palette without black among its {len(present)} colours: which is the background?",
            "say which number is the defect (--label 1, or label in --spec), or " + BINARY,
        )
    ground = black[0] if black else int(present[0])
    names = {int(number): "#{:02x}{:02x}{:02x}".format(*table[number]) for number in present}
    return from_numbers(numbers, reading, False, ground, names)
