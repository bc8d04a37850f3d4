"""Leave-group-out: each image of a class is read by what was made without its fold, and the readers compared.

A group goes to a fold for ever (`lerenet.enrolment.folds`), so no image is read by what knows its part. Where a fold
holds every example, its good parts are read with them, but for those that share a group with one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lerenet.enrolment.decision import OperatingPoint, calibrate
from lerenet.enrolment.folds import folds_of
from lerenet.enrolment.material import Material
from lerenet.enrolment.memory import Memory
from lerenet.enrolment.readers import READERS, Known, read

AT_ONCE = 8  # images


def held_out(material: Material, folds: int) -> dict[int, tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """For each fold that holds images: which images (N,) may be known when it is read, and which are read then."""
    own = folds_of(material.groups.tolist(), folds)
    parts = {}
    for fold in sorted(set(own.tolist())):
        kept, asked = own != fold, own == fold
        if not (kept & material.defect).any():
            kept |= material.defect
            asked &= ~np.isin(material.groups, material.groups[material.defect])
        if asked.any():
            parts[fold] = kept, np.flatnonzero(asked)
    return parts


def without(memory: Memory, material: Material, kept: NDArray[np.bool_]) -> Memory:
    """The memory of a material as if only the images ``kept`` (N,) had been given."""
    examples, good = (torch.from_numpy(kept[part]) for part in (material.examples, material.good))
    device = memory.foreground.device
    return memory.only(examples.to(device), good.to(device))


@torch.inference_mode()
def readings(material: Material, known: Known, asked: NDArray[np.int64], fold: int) -> pd.DataFrame:
    """What each reader says of the images ``asked``: a row for each image and reader, in pixels and as a score."""
    rows = []
    for start in range(0, len(asked), AT_ONCE):
        chosen = [int(place) for place in asked[start : start + AT_ONCE]]
        pictures, truth = material.images(chosen), material.masks[chosen]
        for reader, answer in read(known, material.descriptors[chosen].float()).items():
            marked, scores = answer.marks(pictures) > 0, answer.scores().tolist()
            hits, unions, found, wanted = (
                pixels.flatten(1).sum(1).tolist()
                for pixels in (marked & truth, marked | truth, marked, truth)
            )
            rows += [
                {
                    "place": place, "fold": fold, "group": str(material.groups[place]),
                    "defect": bool(material.defect[place]), "reader": reader, "hit": hits[i], "union": unions[i],
                    "marked": found[i], "truth": wanted[i], "score": scores[i],
                }
                for i, place in enumerate(chosen)
            ]  # fmt: skip
    return pd.DataFrame(rows)


def choose(rows: pd.DataFrame) -> str:
    """The reader for a class, by its left-out examples; the simpler where a gain is not above its standard error.

    IoU is over the pixels of all examples; the standard error is of the paired gain, by leaving out one group at a
    time (jackknife). With examples of one group alone there is nothing to choose by: matching.
    """
    counts = (
        rows[rows["defect"]].pivot_table(
            index="group", columns="reader", values=["hit", "union"], aggfunc="sum"
        )
        if rows["defect"].any()
        else pd.DataFrame()
    )
    best = READERS[0]
    if len(counts) < 2:
        return best
    for reader in READERS[1:]:
        if reader in counts["hit"]:
            gain, error = _gain(counts, best, reader)
            best = reader if gain > error else best
    return best


def _gain(counts: pd.DataFrame, one: str, two: str) -> tuple[float, float]:
    hit, union = (counts[name][[one, two]].to_numpy(float) for name in ("hit", "union"))  # (groups, 2)
    total = _iou(hit.sum(0), union.sum(0))
    left = np.array([_iou(hit.sum(0) - hit[i], union.sum(0) - union[i]) for i in range(len(hit))])
    gains = left[:, 1] - left[:, 0]
    error = np.sqrt((len(gains) - 1) / len(gains) * ((gains - gains.mean()) ** 2).sum())
    return float(total[1] - total[0]), float(error)


def _iou(hit: NDArray[np.float64], union: NDArray[np.float64]) -> NDArray[np.float64]:
    return hit / np.maximum(union, 1)


def choices(rows: pd.DataFrame) -> Mapping[int, str]:
    """The reader for each fold, chosen by the other folds' images alone."""
    return {int(fold): choose(rows[rows["fold"] != fold]) for fold in rows["fold"].unique()}


def operating_point(
    rows: pd.DataFrame, reader: str, false_calls: float, reviews: float
) -> OperatingPoint | None:
    """Thresholds from the left-out good parts, as ``reader`` scores them; None for too few."""
    good = rows[~rows["defect"] & (rows["reader"] == reader)]
    return calibrate(good["score"].tolist(), false_calls, reviews)
