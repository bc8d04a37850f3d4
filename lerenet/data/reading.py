"""What a person can say of files that don't say it themselves: one object for import and prediction."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lerenet.errors import DataError

ANY = "any"
RAW, UPRIGHT = "raw", "upright"
_LABEL = re.compile(r"any|\d{1,10}|#[0-9a-f]{6}")


@dataclass(frozen=True)
class Reading:
    """How images and masks are read.

    Args:
        bits: Bits of a 16-bit file's values that the camera uses (8 to 16); 0: judged by the values.
        label: The defect in a mask of several labels: a number, a colour ``#rrggbb``, or ``any`` for
            all that is not background. Empty: a mask with several labels is refused.
        ignore: Number or colour that is neither defect nor background: such pixels count as nothing.
        inverted: The defect is black.
        drawn_on: ``raw`` or ``upright``: the pixels that masks were drawn on where EXIF turns the
            image. Empty: as the sizes tell, and refused where they can't.

    Raises:
        DataError: a value that is none of these; the message names it.
    """

    bits: int = 0
    label: str = ""
    ignore: str = ""
    inverted: bool = False
    drawn_on: str = ""

    def __post_init__(self) -> None:
        for name in ("label", "ignore"):
            value = str(getattr(self, name)).strip().lower()
            object.__setattr__(self, name, value)
            if value and not _LABEL.fullmatch(value):
                raise DataError(
                    f"{name} {value!r}: no label", "write a number, a colour such as #ff0000, or any"
                )
        if self.ignore == ANY:
            raise DataError("ignore 'any': nothing would be left", "name the one label to ignore")
        if self.bits and not 8 <= self.bits <= 16:
            raise DataError(f"bits {self.bits}: out of range", "say how many bits the camera gives, 8 to 16")
        if self.drawn_on not in ("", RAW, UPRIGHT):
            raise DataError(f"drawn_on {self.drawn_on!r}: unknown", "write raw or upright")


PLAIN = Reading()
