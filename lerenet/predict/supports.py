"""The marked examples of a call: checked, read, masks of the same image joined."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lerenet.data.pairs import read_pair
from lerenet.data.reading import Reading
from lerenet.data.scaling import resize_mask
from lerenet.errors import DataError
from lerenet.files import sha256_file, shown
from lerenet.inference import Example, check_shots
from lerenet.predict.queries import existing, real

THIN = 8  # pixels of the working size: a defect that is nowhere wider is hardly seen
Pair = tuple[Path, Path]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """What `read_examples` read.

    Attributes:
        images: The supports' images.
        sha256: Of each image and its masks.
        supports: Pixels and mask of each.
        notes: What the reader of the results should know.
    """

    images: list[Path]
    sha256: list[tuple[str, ...]]
    supports: list[Example]
    notes: list[str]

    def seen_at(self, size: int) -> Examples:
        """The same with a note on each support whose defect is hardly seen at the working size (pixels)."""
        from scipy.ndimage import distance_transform_edt

        found = []
        for image, (picture, mask) in zip(self.images, self.supports, strict=True):
            wide = 2 * float(distance_transform_edt(resize_mask(mask, size)).max())
            if wide < THIN:
                high, long = picture.shape[:2]
                found.append(
                    f"{shown(image)}: brought from {long} x {high} to {size} x {size}, its defect is about {wide:.0f} "
                    f"pixels wide; below {THIN} it is hardly seen. `lerenet enrol` and `lerenet inspect` cut photos "
                    "into squares, at the scale of the defect"
                )
        for note in found:
            logger.warning(note)
        return replace(self, notes=[*self.notes, *found])


def read_examples(pairs: Sequence[Pair], reading: Reading) -> Examples:
    """Read the supports; an image given with several masks is one support, marked by all of them.

    Raises:
        DataError: not 1 to 5 images, a mask given twice, or a pair that can't be used; the message names the file.
    """
    joined = joined_masks(pairs)
    check_shots(len(joined))
    notes = [
        f"{shown(image)}: its {len(masks)} masks are joined"
        for image, masks in joined.items()
        if len(masks) > 1
    ]
    for note in notes:
        logger.info(note)
    return Examples(
        images=list(joined),
        sha256=[tuple(map(sha256_file, (image, *masks))) for image, masks in joined.items()],
        supports=[read_pair(image, masks, reading) for image, masks in joined.items()],
        notes=notes,
    )


def joined_masks(pairs: Sequence[Pair]) -> dict[Path, list[Path]]:
    """Each image with all of its masks."""
    times = Counter(real(existing(Path(mask))) for _, mask in pairs)
    for _, mask in pairs:
        if (count := times[real(Path(mask))]) > 1:
            raise DataError(f"{shown(mask)}: given as support mask {count} times", "give each mask once")
    first: dict[Path, Path] = {}
    joined: dict[Path, list[Path]] = {}
    for image, mask in pairs:
        image = first.setdefault(real(existing(Path(image))), Path(image))
        joined.setdefault(image, []).append(Path(mask))
    return joined
