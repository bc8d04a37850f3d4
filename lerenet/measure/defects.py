"""The defects of a picture: a row each, measured on the pixels that are marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label, regionprops_table
from skimage.morphology import isotropic_dilation

from lerenet.measure.extents import extents
from lerenet.measure.regions import Region, touched
from lerenet.measure.settings import Measuring
from lerenet.measure.skeleton import skeleton_length

COLUMNS = (
    "class", "id", "left", "top", "right", "bottom", "x", "y", "area_px", "length_px", "width_px",
    "orientation_deg", "solidity", "skeleton_px", "mean_width_px", "area_mm2", "length_mm", "width_mm",
    "skeleton_mm", "mean_width_mm", "mean_probability", "highest_probability", "touches_border", "regions",
)  # fmt: skip
PROPERTIES = (
    "label", "bbox", "centroid", "area", "orientation", "solidity", "axis_major_length", "axis_minor_length",
    "intensity_mean", "intensity_max",
)  # fmt: skip
NAMES = {
    "label": "id", "bbox-0": "top", "bbox-1": "left", "bbox-2": "bottom", "bbox-3": "right",
    "centroid-0": "y", "centroid-1": "x", "area": "area_px", "extents-0": "length_px", "extents-1": "width_px",
    "skeleton_length": "skeleton_px", "intensity_mean": "mean_probability",
    "intensity_max": "highest_probability",
}  # fmt: skip
ROUND = 1.05  # of the axes: below, a shape has no direction


def measure(
    marks: NDArray[np.uint8],
    probability: NDArray[np.float32],
    classes: Sequence[str],
    settings: Measuring,
    regions: Mapping[str, Region] | None = None,
) -> pd.DataFrame:
    """Measure each defect of a picture; docs/inspect.md says what each of `COLUMNS` is.

    Args:
        marks: (H, W); 0, or 1 + the place of a class in ``classes``.
        probability: (H, W), 0 to 1.
        classes: their names.
        regions: whose names a defect gets where it has a pixel in them.
    """
    numbered, owners = number_defects(marks, settings)
    if not owners:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.DataFrame(
        regionprops_table(
            numbered, probability, properties=PROPERTIES, extra_properties=(extents, skeleton_length)
        )
    )
    return _finished(table.rename(columns=NAMES), marks.shape, settings.mm_per_pixel).assign(**{
        "class": [classes[owner - 1] for owner in owners],
        "regions": _names(touched(numbered, regions or {}), len(owners)),
    })[list(COLUMNS)]  # fmt: skip


def number_defects(marks: NDArray[np.uint8], settings: Measuring) -> tuple[NDArray[np.int32], list[int]]:
    """Which marked pixels are one defect: (H, W) with 0 or its number, and the class of each in ``marks``.

    The marks of one class that are connected are one defect, and those that become so when each grows by the closing
    radius: gaps up to twice as wide. Neither the gaps nor the growth are part of it. Marks of fewer pixels than the
    smallest defect's get no number.
    """
    numbered = np.zeros(marks.shape, np.int32)
    owners: list[int] = []
    for owner in np.unique(marks[marks > 0]):
        box = ndimage.find_objects((marks == owner).view(np.uint8))[0]
        mine = marks[box] == owner
        grown = isotropic_dilation(mine, settings.closing) if settings.closing else mine
        pieces = label(grown, connectivity=settings.connectivity // 4) * mine
        sizes = np.bincount(pieces.ravel())
        kept = np.flatnonzero(sizes[1:] >= settings.smallest) + 1
        numbers = np.zeros(len(sizes), np.int32)
        numbers[kept] = np.arange(len(kept)) + len(owners) + 1
        numbered[box] += numbers[pieces]
        owners += [int(owner)] * len(kept)
    return numbered, owners


def _finished(table: pd.DataFrame, shape: tuple[int, ...], scale: float | None) -> pd.DataFrame:
    """With direction, mean width, millimetres, and whether a defect touches the border."""
    long = table["axis_major_length"] > ROUND * table["axis_minor_length"]
    table["orientation_deg"] = ((np.degrees(table["orientation"]) + 90) % 180).where(long)
    table["mean_width_px"] = table["area_px"] / table["skeleton_px"]
    table["touches_border"] = (
        (table[["left", "top"]] == 0).any(axis=1)
        | (table["bottom"] == shape[0])
        | (table["right"] == shape[1])
    )  # fmt: skip
    factor = np.nan if scale is None else scale
    for name in ("length", "width", "skeleton", "mean_width"):
        table[f"{name}_mm"] = table[f"{name}_px"] * factor
    return table.assign(area_px=table["area_px"].astype(int), area_mm2=table["area_px"] * factor**2)


def _names(found: Mapping[int, Sequence[str]], count: int) -> list[str]:
    return [" ".join(found.get(number, ())) for number in range(1, count + 1)]
