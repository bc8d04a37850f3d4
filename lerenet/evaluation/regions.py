"""Per-region overlap (PRO; Bergmann et al., MVTec AD, 2019): every defect counts alike, however small it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

REGIONS, OVERLAP = (
    "regions",
    "overlap",
)  # columns: connected defects of an image, and the sum of their overlaps


def overlaps(truth: NDArray[np.bool_], marked: list[NDArray[np.bool_]]) -> tuple[int, list[float]]:
    """How much of each connected defect is marked.

    Args:
        truth: of one image, (H, W).
        marked: by each of several models, (H, W) each.

    Returns:
        The number of defects (8-connected), and for each model the sum over them of the share that it marks.
    """
    numbered, count = label(truth, return_num=True, connectivity=2)
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
    hits = (np.bincount(numbered[one], minlength=count + 1)[1:] for one in marked)
    return int(count), [float((hit / sizes).sum()) for hit in hits]
