"""New masks that may not belong to their images: swapped between images, shifted, or of another defect.

What the champion marks on an image, left out, lies rather on its own mask than on another's, however little is marked.
Of masks that came together and don't belong that is not so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lerenet.data.scaling import resize_mask
from lerenet.enrolment.enrolled import CLASSES, READINGS, load_enrolled
from lerenet.enrolment.variants import marks
from lerenet.evaluation.located import chance_of_fit
from lerenet.params import Params
from lerenet.registry import live
from lerenet.registry.registered import INSPECTION

FEWEST = 4  # parts below which nothing can be said of their masks
SIZE = 200  # pixels: images of any shape are compared as squares
DOUBT = 0.05  # p above which masks fit no better than dealt out to other parts

Fit = Callable[[str, list[str]], float]  # of a class, and names of its images: p


def batches(champion: Path, earlier: Sequence[Path], challenger: Path) -> dict[str, int]:
    """For each image that is new to the champion, a number of when it came: those of one number came together.

    Args:
        champion, challenger: packages of versions.
        earlier: packages of the versions before the challenger, oldest first.
    """
    left, found = live.given(challenger) - live.given(champion), dict[str, int]()
    for number, package in enumerate(earlier):
        came = left & live.given(package)
        found |= {name: number for name, *_ in came}
        left -= came
    return found | {name: len(earlier) for name, *_ in left}


def fit_of(package: Path, params: Params) -> Fit:
    """How well masks fit what the champion in ``package`` marks: `chance_of_fit`."""

    def fit(cls: str, images: list[str]) -> float:
        folder = package / INSPECTION / CLASSES / cls
        described = live.material(package, cls, images, params)
        said = marks(load_enrolled(folder), pd.read_parquet(folder / READINGS), described)
        marked = [one & described.counted(place).cpu().numpy() for place, one in enumerate(said)]
        masks = [described.mask(place).cpu().numpy() for place in range(len(marked))]
        one, two = (np.stack([resize_mask(mask, SIZE) for mask in part]) for part in (marked, masks))
        return chance_of_fit(one, two, described.groups)

    return fit


def doubted(champion: pd.DataFrame, came: Mapping[str, int], fit: Fit) -> list[str]:
    """Classes with new masks that fit what the champion marks no better than masks of other parts would.

    Each batch is asked about by itself, for a bad one would hide among good ones; those that are too small, together.
    A class is left out where the champion's marks fit the old masks no better either: it can't tell.

    Args:
        champion: its rows, each image left out.
        came: of the images that are new to it, see `batches`.
        fit: see `fit_of`.
    """
    reasons = []
    known = champion[champion["defect"] & champion["reader"].ne("")]
    for cls, rows in known.groupby("cls"):
        batch = rows["image"].map(came)
        old = rows[batch.isna()]
        new = list(_apart(rows[batch.notna()], batch.dropna()))
        if not new or old["group"].nunique() < FEWEST or fit(str(cls), list(old["image"])) > DOUBT:
            continue
        for part in new:
            p = fit(str(cls), list(part["image"]))
            if p > DOUBT:
                reasons.append(
                    f"{cls}: what the champion marks on {part['group'].nunique()} new parts fits their masks no better "
                    f"than other parts' masks (p {p:.2g}), as for {part['image'].iloc[0]}: do they belong to their "
                    "images? If so, `lerenet promote VERSION --force`"
                )
    return reasons


def _apart(rows: pd.DataFrame, batch: pd.Series) -> Iterator[pd.DataFrame]:
    """Batches of at least `FEWEST` parts, and all smaller ones as one if it has so many."""
    small = []
    for _, part in rows.groupby(batch):
        if part["group"].nunique() >= FEWEST:
            yield part
        else:
            small.append(part)
    if small and (rest := pd.concat(small))["group"].nunique() >= FEWEST:
        yield rest
