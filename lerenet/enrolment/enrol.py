"""Enrolling a class: its memory, fitted heads, the reader that leaves groups out best, and where an image is called."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lerenet.data.groups import folds_of
from lerenet.data.pairs import read_marked
from lerenet.data.reading import PLAIN, Reading
from lerenet.data.tiles import side_for
from lerenet.enrolment.curve import curve
from lerenet.enrolment.enrolled import WHOLE, Enrolled, Image, Left, save_enrolled
from lerenet.enrolment.fitted import FEWEST, FittedHead, fit
from lerenet.enrolment.leave_out import choose, held_out, operating_point, readings, surface, without
from lerenet.enrolment.material import Material, described_by, gathered
from lerenet.enrolment.memory import Memory, remember
from lerenet.enrolment.quiet import quieted
from lerenet.enrolment.readers import OF_ALL, Known
from lerenet.enrolment.shared import SharedHead
from lerenet.errors import DataError
from lerenet.files import sha256_file, shown
from lerenet.inference import prepare, read_query
from lerenet.models.serialization import LoadedNetwork
from lerenet.params import EnrolmentSettings

NAME = re.compile(r"[^\W.][\w .-]{0,63}")


def learn(
    name: str,
    material: Material,
    images: Sequence[Image],
    network: str,
    settings: EnrolmentSettings,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
    precision: str = "bf16",
    side: int = 0,
) -> tuple[Enrolled, Left]:
    """Learn a class from its material.

    Args:
        images: of the material, in its order.
        network: digest of the backbone that described it.
        tick: called once a step of fitting.
        precision: of fitting, bf16 (where the device has it) or fp32.
        side: of the squares that it was cut into (`lerenet.data.tiles`), in pixels of its files.

    Returns:
        The class, and what is said of its images, each left out.

    Raises:
        DataError: no marked example.
    """
    good = material.good
    if not material.examples:
        raise DataError(f"{name}: no example", "mark a defect on one image at least")
    memory = remembered(material, settings)
    heads: dict[str, FittedHead] = {}

    def fitted(kept: NDArray[np.bool_]) -> FittedHead | None:
        if not settings.steps:
            return None
        marked, clean = ([place for place in part if kept[place]] for part in (material.examples, good))
        return fit(material, marked, clean, settings.steps, seed, tick, precision)

    left = {}
    for fold, (kept, asked) in held_out(material, settings.folds).items():
        head = fitted(kept)
        heads |= {str(fold): head} if head is not None else {}
        left[fold] = (Known(without(memory, material, kept), head), asked)
    parts, quiet = quieted(material, left, settings.false_calls, settings.reviews)
    tables = [readings(material, known, asked, fold) for fold, (known, asked) in parts.items()]
    rows = pd.concat(tables, ignore_index=True) if tables else readings(material, Known(memory), EMPTY, 0)
    rows = rows.assign(image=[images[place].name for place in rows.pop("place")])
    whole = fitted(np.ones(len(material.groups), bool))
    heads |= {WHOLE: whole} if whole is not None else {}
    reader = choose(rows)
    point = operating_point(rows, reader, settings.false_calls, settings.reviews)
    enrolled = Enrolled(
        name, memory, heads, reader, point, surface(rows), settings.folds, network, material.tilings[0].size, side,
        [images[place] for place in material.examples], [images[place] for place in good],
        quiet={WHOLE: quiet, **{str(fold): known.quiet for fold, (known, _) in parts.items()}},
    )  # fmt: skip
    return enrolled, Left(rows, curve(material, settings, seed))


def with_shared(
    enrolled: Enrolled,
    left: Left,
    material: Material,
    shared: Mapping[str, SharedHead],
    settings: EnrolmentSettings,
) -> tuple[Enrolled, Left]:
    """A class as `learn` made it from its material, with the heads of all known classes among its readers.

    Args:
        shared: by the fold that they lack, as far as there are, and `WHOLE`.
    """
    images = zip((*material.examples, *material.good), (*enrolled.examples, *enrolled.good), strict=True)
    name_of = {place: image.name for place, image in images}
    tables = [left.readings]
    for fold, (kept, asked) in held_out(material, settings.folds).items():
        which = str(fold)
        if which not in shared:  # too few classes taught without it
            continue
        memory = without(enrolled.memory, material, kept)
        known = Known(
            memory, enrolled.heads.get(which), shared.get(which), enrolled.quiet.get(which, -math.inf)
        )
        known = known.to(material.descriptors.device)
        rows = readings(material, known, asked, fold, OF_ALL)
        tables.append(rows.assign(image=[name_of[place] for place in rows.pop("place")]))
    said = [table for table in tables if len(table)]
    rows = pd.concat(said, ignore_index=True) if said else left.readings
    reader = choose(rows)
    point = operating_point(rows, reader, settings.false_calls, settings.reviews)
    return replace(enrolled, reader=reader, point=point, shared=shared), Left(rows, left.curve)


def remembered(material: Material, settings: EnrolmentSettings) -> Memory:
    """The memory of a class's images, each fold of groups thinned apart."""
    described, folds, of = [], [], []
    for part in (material.examples, material.good):
        own = folds_of(material.groups[part].tolist(), settings.folds)
        counts = [len(material.tilings[place].corners) for place in part]
        described.append(material.squares(part))
        folds.append(np.repeat(own, counts).tolist())
        of.append(np.repeat(np.arange(len(part)), counts).tolist())
    return remember(
        material.descriptors[described[0]], material.shares(described[0]), material.descriptors[described[1]],
        settings.budget, (folds[0], folds[1]), (of[0], of[1]),
    )  # fmt: skip


def fits(material: Material, settings: EnrolmentSettings) -> int:
    """How many steps of fitting `learn` takes."""
    kept = [kept for kept, _ in held_out(material, settings.folds).values()] + [
        np.ones(len(material.groups), bool)
    ]
    return settings.steps * sum(int((one & material.defect).sum()) >= FEWEST for one in kept)


EMPTY = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Given:
    """The files that a class is enrolled with.

    Attributes:
        examples: image and its masks, which are joined.
        good: defect-free images of the same surface.
        reading: what a person says of the files.
    """

    examples: Sequence[tuple[Path, Sequence[Path]]]
    good: Sequence[Path] = field(default_factory=tuple)
    reading: Reading = PLAIN


def enrol_class(
    name: str,
    given: Given,
    loaded: LoadedNetwork,
    into: Path,
    settings: EnrolmentSettings | None = None,
    side: int | None = None,
    tick: Callable[..., None] = lambda done=1, note=None: None,
) -> Enrolled:
    """Enrol ``name``, in the place of what was enrolled under it, and write it to ``into``.

    Files of equal bytes are one part; any two others are two.

    Args:
        loaded: the network, as it comes from disk.
        settings: the defaults where not given.
        side: of the squares that pictures are cut into, in their pixels; None: by their shape (`side_for`).
        tick: called once an image.

    Raises:
        DataError: no example, a name that is no folder's, or a file that can't be used; nothing is written then.
    """
    if not NAME.fullmatch(name):
        raise DataError(f"{name!r}: no name of a class", "use letters, digits, spaces, - _ and ., at most 64")
    if not given.examples:
        raise DataError(f"{name}: no example", "give --example IMAGE MASK at least once")
    marked = [read_marked(image, list(masks), given.reading) for image, masks in given.examples]
    clean = [read_query(path, given.reading.bits) for path in given.good]
    images = [_image(image, *masks) for image, masks in given.examples] + [
        _image(path) for path in given.good
    ]
    shapes = [picture.shape[:2] for picture in (*(picture for picture, _ in marked), *clean)]
    side = side_for(shapes) if side is None else side
    material = gathered(prepare(loaded), marked, clean, [one.group for one in images], side, tick)
    digest = described_by(loaded)
    enrolled, left = learn(name, material, images, digest, settings or EnrolmentSettings(curve=()), side=side)
    enrolled = replace(enrolled, bits=given.reading.bits)
    save_enrolled(into, enrolled, left)
    return enrolled


def _image(path: Path, *masks: Path) -> Image:
    digests = [sha256_file(file) for file in (path, *masks)]
    return Image(shown(path), digests[0], digests[0], tuple(digests[1:]))
