"""Names of what is computed: cells of the grid, and views of the images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from lerenet.errors import ParamsError

if TYPE_CHECKING:
    from lerenet.params import Params

View = tuple[str, int]  # image key, view (0: the image itself)
_PART = re.compile(r"^[a-z0-9_]+$")


@dataclass(frozen=True)
class Cell:
    """One cell of the experiment grid; its ``key`` names its DVC stage and its folders."""

    split: str
    backbone: str
    recipe: str
    shots: int
    seed: int

    @property
    def key(self) -> str:
        """``<split>-<backbone>-<recipe>-<shots>-<seed>``, as DVC's matrix spells it."""
        return f"{self.split}-{self.backbone}-{self.recipe}-{self.shots}-{self.seed}"

    @property
    def base(self) -> str:
        """``<split>-<backbone>``: the key of the pretraining and features behind this cell."""
        return f"{self.split}-{self.backbone}"

    @classmethod
    def parse(cls, key: str) -> Cell:
        """Read a key.

        Raises:
            ParamsError: when ``key`` is not of the form above.
        """
        parts = key.split("-")
        if len(parts) != 5 or not all(map(_PART.match, parts)) or not (parts[3] + parts[4]).isdigit():
            raise ParamsError(
                f"{key!r} is no cell of the grid",
                "write SPLIT-BACKBONE-RECIPE-SHOTS-SEED, e.g. fold0-efficientnet_lite0-lerenet-1-0",
            )
        return cls(parts[0], parts[1], parts[2], int(parts[3]), int(parts[4]))


def parse_base(key: str) -> tuple[str, str]:
    """Read ``<split>-<backbone>``.

    Raises:
        ParamsError: when ``key`` is not of that form.
    """
    parts = key.split("-")
    if len(parts) != 2 or not all(map(_PART.match, parts)):
        raise ParamsError(
            f"{key!r} names no split and backbone", "write SPLIT-BACKBONE, e.g. fold0-efficientnet_lite0"
        )
    return parts[0], parts[1]


def ship_cells(params: Params) -> dict[str, Cell]:
    """The shipping cell of each split: the folds and ``all``."""
    from lerenet.params import SplitName

    ship = params.ship
    return {
        split: Cell(split, ship.backbone, ship.recipe, ship.shots, ship.seed) for split in get_args(SplitName)
    }
