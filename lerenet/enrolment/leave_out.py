"""Leave-group-out: each image of a class is read by what was made without its fold, and the readers compared.

A group goes to a fold for ever (`lerenet.data.groups`), so no image is read by what knows its part. Where a fold
holds every example, its good parts are read with them, but for those that share a group with one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lerenet.data.groups import folds_of
from lerenet.enrolment.decision import OperatingPoint, calibrate, surface_bound
from lerenet.enrolment.material import Material
from lerenet.enrolment.memory import Memory
from lerenet.enrolment.readers import AT_ONCE, PIXELS, READERS, Known, Read, read_squares
from lerenet.evaluation.metrics import COUNTS, iou
from lerenet.evaluation.regions import OVERLAP, REGIONS, overlaps
from lerenet.evaluation.resampling import jackknife

ALIKE = "alike"  # column: how much like the class's surface an image is (`lerenet.enrolment.readers.Read`)
COLUMNS = ("fold", "group", "defect", "reader", "score", ALIKE, *COUNTS, REGIONS, OVERLAP)  # of readings
TYPES = {
    "place": int, "fold": int, "defect": bool, "score": float, ALIKE: float, **dict.fromkeys(COUNTS, float),
    REGIONS: int, OVERLAP: float,
}  # fmt: skip


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
def readings(
    material: Material, known: Known, asked: NDArray[np.int64], fold: int, readers: Sequence[str] = READERS
) -> pd.DataFrame:
    """What each of the ``readers`` says of the images ``asked``: a row for each image and reader.

    Counts of pixels, as if every image had as many as a square, a score, and how much is marked of each defect
    (`lerenet.evaluation.regions`).
    """
    rows = []
    for chosen in _together(material, asked.tolist()):
        answers = read_squares(known, material.descriptors[material.squares(chosen)], readers)
        at = 0
        for place in chosen:
            squares = material.squares([place])
            own = {name: answer.only(slice(at, at + len(squares))) for name, answer in answers.items()}
            at += len(squares)
            rows += _said(material, place, squares, own, fold)
    return pd.DataFrame(rows, columns=["place", *COLUMNS]).astype(TYPES)


def _together(material: Material, asked: Sequence[int]) -> Iterator[list[int]]:
    """Images that are read together: as many as have `AT_ONCE` squares."""
    some: list[int] = []
    for place in asked:
        if some and len(material.squares([*some, place])) > AT_ONCE:
            yield some
            some = []
        some.append(place)
    if some:
        yield some


def _said(
    material: Material, place: int, squares: Sequence[int], answers: Mapping[str, Read], fold: int
) -> list[dict[str, Any]]:
    """The rows of one image, a row for each reader."""
    how, within = material.tilings[place], material.within(squares, PIXELS)
    true, counted = material.mask(place).cpu().numpy(), material.counted(place).cpu().numpy()
    marks = {
        name: (answer.blended(lambda some: material.images(squares[some]), how, within) > 0).cpu().numpy()
        & counted
        for name, answer in answers.items()
    }
    regions, shares = overlaps(true, list(marks.values()))
    facts = {
        "place": place, "fold": fold, "group": str(material.groups[place]), "defect": bool(material.defect[place]),
        REGIONS: regions, ALIKE: next(iter(answers.values())).likeness(within),
    }  # fmt: skip
    rows, unit = [], how.size**2 / true.size
    for (reader, one), overlap in zip(marks.items(), shares, strict=True):
        tp, fp = int((one & true).sum()), int((one & ~true).sum())
        counts = {"tp": tp, "fp": fp, "fn": int(true.sum()) - tp, "tn": int((counted & ~true).sum()) - fp}
        sized = {name: count * unit for name, count in counts.items()}
        rows.append(
            facts | sized | {"reader": reader, "score": answers[reader].score(within), OVERLAP: overlap}
        )
    return rows


def choose(rows: pd.DataFrame) -> str:
    """The reader for a class, by its left-out examples; the simpler where a gain is not above its standard error.

    With examples of one group alone there is nothing to choose by: matching.
    """
    found = {str(reader): part for reader, part in rows[rows["defect"]].groupby("reader")}
    best = READERS[0]
    for reader in READERS[1:]:
        if best in found and reader in found:
            change, error = gain(found[best], found[reader])
            best = reader if change > error else best
    return best


def gain(one: pd.DataFrame, two: pd.DataFrame) -> tuple[float, float]:
    """How much better ``two`` marks than ``one``, in points, and the standard error of that.

    Compared is the geometric mean of IoU, over the pixels of all, and of per-region overlap, over their defects: a few
    large defects decide the first, which small ones hardly move; marking too much only raises the second. The error is
    of the paired gain, by leaving out one group at a time.

    Args:
        one, two: rows of `readings`, of marked examples; what counts is those of groups that are in both.
    """
    sums = [part.groupby("group")[[*COUNTS, REGIONS, OVERLAP]].sum() for part in (one, two)]
    both = sums[0].index.intersection(sums[1].index)
    if len(both) < 2:
        return 0.0, 0.0
    return jackknife(np.stack([part.loc[both].to_numpy(float) for part in sums], axis=1), _marking)


def _marking(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of counts, defects and the sum of their overlaps (..., 6), in percent."""
    regions, overlap = sums[..., len(COUNTS)], sums[..., len(COUNTS) + 1]
    return np.asarray(np.sqrt(iou(sums[..., : len(COUNTS)]) * 100 * overlap / np.maximum(regions, 1)))


def choices(rows: pd.DataFrame) -> Mapping[int, str]:
    """The reader for each fold, chosen by the other folds' images alone."""
    return {int(fold): choose(rows[rows["fold"] != fold]) for fold in rows["fold"].unique()}


def operating_point(
    rows: pd.DataFrame, reader: str, false_calls: float, reviews: float
) -> OperatingPoint | None:
    """Thresholds from the left-out good parts, as ``reader`` scores them; None for too few.

    A part that was photographed several times counts once, with its highest score.
    """
    good = rows[~rows["defect"] & (rows["reader"] == reader)]
    return calibrate(good.groupby("group")["score"].max().tolist(), false_calls, reviews)


def surface(rows: pd.DataFrame) -> float | None:
    """How alike an image must be to be of the class's surface, by the left-out parts; None for too few."""
    return surface_bound(rows.groupby("group")[ALIKE].min().tolist())
