"""Enrolling a class: marked examples, however many, and good parts, which say where to call an image."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from lerenet.data.pairs import read_pair
from lerenet.data.reading import PLAIN, Reading
from lerenet.enrolment.decision import FEWEST, OperatingPoint, calibrate, image_scores
from lerenet.enrolment.describe import describe, shares_of
from lerenet.enrolment.enrolled import Enrolled, save_enrolled
from lerenet.enrolment.memory import BUDGET, Memory, remember, similarities, without_good
from lerenet.errors import DataError
from lerenet.features.store import fingerprint
from lerenet.files import sha256_file, shown
from lerenet.inference import read_query
from lerenet.models.serialization import LoadedNetwork

NAME = re.compile(r"[^\W.][\w .-]{0,63}")


@dataclass(frozen=True)
class Given:
    """What a class is enrolled with.

    Attributes:
        examples: image and its masks, which are joined.
        good: defect-free images of the same surface.
        reading: what a person says of the files.
        false_calls: share of good parts that may be called bad.
        reviews: share of good parts that a person may be asked about.
    """

    examples: Sequence[tuple[Path, Sequence[Path]]]
    good: Sequence[Path] = field(default_factory=tuple)
    reading: Reading = PLAIN
    false_calls: float = 0.02
    reviews: float = 0.1


def enrol_class(
    name: str,
    given: Given,
    loaded: LoadedNetwork,
    into: Path,
    tick: Callable[..., None] = lambda done=1, note=None: None,
    budget: int = BUDGET,
) -> Enrolled:
    """Enrol ``name``, in the place of what was enrolled under it, and write it to ``into``.

    Args:
        loaded: the network, ready to predict (`lerenet.inference.prepare`).
        tick: called once an image.
        budget: most places of each kind that are kept.

    Raises:
        DataError: no example, a name that is no folder's, or a file that can't be used; nothing is written then.
    """
    if not NAME.fullmatch(name):
        raise DataError(f"{name!r}: no name of a class", "use letters, digits, spaces, - _ and ., at most 64")
    if not given.examples:
        raise DataError(f"{name}: no example", "give --example IMAGE MASK at least once")
    marked = []
    for image, masks in given.examples:
        marked.append(read_pair(image, list(masks), given.reading))
        tick(1)
    clean = []
    for path in given.good:
        clean.append(read_query(path, given.reading.bits))
        tick(1)
    descriptors = describe(loaded, [picture for picture, _ in marked])
    shares = shares_of([mask for _, mask in marked], loaded.image_size).to(descriptors.device)
    good = describe(loaded, clean) if clean else None
    memory = remember(descriptors, shares, good, budget)
    point = None if good is None else operating_point(memory, good, given.false_calls, given.reviews)
    enrolled = Enrolled(
        name, memory, point, fingerprint(loaded.network.backbone), loaded.image_size,
        [_facts(image, *masks) for image, masks in given.examples], [_facts(path) for path in given.good],
    )  # fmt: skip
    save_enrolled(into, enrolled)
    return enrolled


def operating_point(
    memory: Memory, good: Tensor, false_calls: float, reviews: float
) -> OperatingPoint | None:
    """Thresholds from the memory's good parts (G, c, l), each scored as if it had not been given; None for too few."""
    if len(good) < FEWEST:
        return None
    scores = [
        float(image_scores(*similarities(good[one : one + 1], without_good(memory, one))))
        for one in range(len(good))
    ]
    return calibrate(scores, false_calls, reviews)


def _facts(image: Path, *masks: Path) -> dict[str, Any]:
    return {"image": shown(image), "sha256": [sha256_file(path) for path in (image, *masks)]}
