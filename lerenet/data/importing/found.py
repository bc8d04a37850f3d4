"""The images of a source, as its rules find them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lerenet.data.importing.layouts import Rule, Source
from lerenet.data.reading import Reading


@dataclass(frozen=True)
class Found:
    """One image of a source.

    Args:
        rule: that matches it.
        image: its file.
        masks: their files; none for a clean image.
        wanted: posix path of the mask that the rule names; empty when it names none.
        cls: name of its class.
        text: file name that the rule gives it.
        stem: `text` as the data folder writes it, without suffix.
        group: its specimen's name; empty when it is its own.
        path: posix, below the source's folder.
        pieces: of the path, by their names in the rule.
    """

    rule: Rule
    image: Path
    masks: tuple[Path, ...]
    wanted: str
    cls: str
    text: str
    stem: str
    group: str
    path: str
    pieces: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Gathered:
    """All images of a source.

    Args:
        source: its layout or format.
        pictures: the images.
        unused: posix paths of image files that are left out.
        names: what messages call a mask that was made for the import.
        reading: how the files are read, in the place of what was asked; None: as was asked.
    """

    source: Source
    pictures: Sequence[Found]
    unused: Sequence[str]
    names: Mapping[Path, str] = field(default_factory=dict)
    reading: Reading | None = None
