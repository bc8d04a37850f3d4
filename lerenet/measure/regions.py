"""Rectangles of a picture that a rule may ask about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lerenet.params import Settings

Edge = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Region(Settings):
    """A rectangle, in shares of the picture's width and height or in its pixels; (0, 0) is the upper left corner."""

    left: Edge
    top: Edge
    right: Edge
    bottom: Edge
    unit: Literal["share", "px"] = "share"

    @model_validator(mode="after")
    def _has_room(self) -> Region:
        if self.right <= self.left or self.bottom <= self.top:
            raise ValueError("left must be less than right, top less than bottom")
        if self.unit == "share" and max(self.right, self.bottom) > 1:
            raise ValueError("shares go up to 1; write unit: px for pixels")
        return self

    @property
    def words(self) -> str:
        """Its edges, as the name of a rectangle that has none."""
        edges = ":".join(f"{edge:g}" for edge in (self.left, self.top, self.right, self.bottom))
        return edges + ("px" if self.unit == "px" else "")

    def inside(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of the pixels whose centres lie in it."""
        down, across = (height, width) if self.unit == "share" else (1, 1)
        return _centres(self.top * down, self.bottom * down), _centres(
            self.left * across, self.right * across
        )


def _centres(begin: float, end: float) -> slice:
    return slice(math.ceil(begin - 0.5), math.ceil(end - 0.5))


def touched(numbered: NDArray[np.int32], regions: Mapping[str, Region]) -> dict[int, list[str]]:
    """Number of a defect -> the names of the regions that hold a pixel of it.

    Args:
        numbered: (H, W); 0, or the number of a defect.
    """
    found: dict[int, list[str]] = {}
    for name, region in regions.items():
        for number in np.unique(numbered[region.inside(*numbered.shape)]):
            found.setdefault(int(number), []).append(name)
    return found
