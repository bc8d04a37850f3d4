"""How marks become defects, and pixels millimetres."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lerenet.params import Positive, Settings


class Measuring(Settings):
    """What counts as one defect, and the scale of the pictures."""

    mm_per_pixel: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # None: pixels only
    closing: Annotated[int, Field(ge=0, le=500)] = 0  # radius in pixels; gaps up to twice as wide are closed
    smallest: Positive = 1  # pixels; what has fewer is no defect
    connectivity: Literal[4, 8] = 8  # 8: pixels that meet at a corner belong together, too
