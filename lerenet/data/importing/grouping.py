"""Groups, classes and file names that an image gets by what other images there are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from lerenet.data.importing.found import Found
from lerenet.data.names import marked
from lerenet.errors import DataError
from lerenet.files import shown


def sequenced(pictures: Sequence[Found]) -> list[Found]:
    """Specimens of rules with a ``sequence``: s0, s1, ... in the order of their frames.

    Raises:
        DataError: an exposure or a frame that is no number.
    """
    plain = [item for item in pictures if item.rule.sequence is None]
    specimen, before, last = -1, 0, 0
    for frame, exposure, item in sorted(_frames(pictures), key=lambda row: (row[0], row[1], row[2].path)):
        if specimen < 0 or exposure <= before or frame - last > item.rule.max_step:
            specimen += 1
        before, last = exposure, frame
        plain.append(replace(item, group=f"s{specimen}"))
    return plain


def _frames(pictures: Sequence[Found]) -> list[tuple[int, int, Found]]:
    """Frame, exposure and image of those with a ``sequence``."""
    frames = []
    for item in pictures:
        if item.rule.sequence is not None:
            exposure, frame = (item.pieces[piece] for piece in item.rule.sequence)
            if not (exposure.isdecimal() and frame.isdecimal()):
                raise DataError(
                    f"{shown(item.image)}: {exposure!r} and {frame!r} are no numbers", "rename the file"
                )
            frames.append((int(frame), int(exposure), item))
    return frames


def shared(pictures: Sequence[Found]) -> list[Found]:
    """Deal the images of rules with ``share_among`` out among the classes, group by group."""
    kept = [item for item in pictures if not item.rule.share_among]
    for rule in {id(item.rule): item.rule for item in pictures if item.rule.share_among}.values():
        classes = sorted({item.cls for item in kept if re.fullmatch(rule.share_among, item.cls)})
        mine = [item for item in pictures if item.rule is rule]
        groups = list(dict.fromkeys(item.group or item.path for item in mine))
        turn = {group: number for number, group in enumerate(groups)}
        for item in mine if classes else ():
            name = classes[turn[item.group or item.path] % len(classes)]
            kept.append(replace(item, cls=name))
    return kept


def named(pictures: Sequence[Found]) -> list[Found]:
    """Tell names apart that are the same once letters were replaced: those get a digest of the one they had."""
    counts = Counter((item.cls, item.stem) for item in pictures)
    return [
        replace(item, stem=marked(item.stem, item.text))
        if counts[item.cls, item.stem] > 1 and item.stem != item.text
        else item
        for item in pictures
    ]
