"""What every format is read to, and written from: an image's regions, each of a class, with its mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lerenet.data.images import MAX_PIXELS
from lerenet.data.scaling import IGNORED, Marks, Mask

Size = tuple[int, int]  # height and width in pixels


def size_of(height: int, width: int) -> Size:
    """Height and width that an export says, before a mask of that size is made.

    Raises:
        ValueError: no pixel, or more than an image may have.
    """
    if not 0 < height * width <= MAX_PIXELS:
        raise ValueError(f"a size of {width} x {height} pixels")
    return height, width


@dataclass(frozen=True)
class Region:
    """One marked object.

    Args:
        name: of its class, as the tool has it.
        mask: (H, W), True on the object.
        score: of a prediction; None where a person drew it.
    """

    name: str
    mask: Mask
    score: float | None = None


@dataclass(frozen=True)
class AnnotatedImage:
    """One image of an export.

    Args:
        image: name or path of the image's file, as the export has it.
        size: height and width in pixels that the annotation was drawn on.
        regions: in the export's order; they may overlap.
        ignored: (H, W), True where a pixel counts as nothing; None without such pixels.
        source: file and entry that it was read from, for messages.
    """

    image: str
    size: Size
    regions: tuple[Region, ...] = ()
    ignored: Mask | None = None
    source: str = ""

    def marked(self) -> list[Region]:
        """The regions that mark a pixel."""
        return [region for region in self.regions if region.mask.any()]

    def classes(self) -> list[str]:
        """Names of the classes that mark something, in order of their first region."""
        return list(dict.fromkeys(region.name for region in self.regions))

    def of_class(self, name: str) -> Mask:
        """All regions of a class as one mask (H, W)."""
        return self.joined([name])

    def joined(self, names: Sequence[str] = ()) -> Mask:
        """All regions of these classes, or of every class, as one mask (H, W)."""
        return joined(
            [region.mask for region in self.regions if not names or region.name in names], self.size
        )

    def marks(self, names: Sequence[str] = ()) -> Marks:
        """`joined`, with `IGNORED` where a pixel beside it counts as nothing."""
        marks = self.joined(names).astype(np.int8)
        if self.ignored is not None:
            marks[self.ignored & (marks == 0)] = IGNORED
        return marks


def joined(masks: Sequence[Mask], size: Size) -> Mask:
    """The union of masks (H, W) of one ``size``; of none, an empty one."""
    whole: Mask = np.zeros(size, dtype=bool)
    for mask in masks:
        whole |= mask
    return whole
