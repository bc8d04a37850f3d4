"""The files of a source, as its rules see them, and the look-up of masks by their names."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from lerenet.data.dataset import DATASET, SOURCES
from lerenet.data.importing.patterns import fill, name_pattern, split_suffix, suffix_pattern
from lerenet.data.listing import image_like, list_files
from lerenet.data.names import nfc
from lerenet.errors import refuse

MEND = "mend or remove these files in the source, then import again; nothing was changed"


@dataclass(frozen=True)
class Tree:
    """A source's folder and the posix paths of its files.

    Args:
        folder: where the files are.
        front: name with a slash that stands before every path; of a folder that is itself one class.
        files: sorted, hidden ones left out.
    """

    folder: Path
    front: str
    files: tuple[str, ...]

    def path(self, name: str) -> Path:
        """Where a file of the tree is."""
        return self.folder / name.removeprefix(self.front)

    @cached_property
    def plain(self) -> Sequence[tuple[str, str]]:
        """Each file, and its path in NFC."""
        return [(name, nfc(name)) for name in self.files]

    @cached_property
    def _folders(self) -> Mapping[str, Sequence[str]]:
        by_folder: dict[str, list[str]] = defaultdict(list)
        for name, plain in self.plain:
            by_folder[str(PurePosixPath(plain).parent)].append(name)
        return by_folder

    @cached_property
    def _stems(self) -> Mapping[str, Sequence[str]]:
        by_stem: dict[str, list[str]] = defaultdict(list)
        for name, plain in self.plain:
            by_stem[re.sub(r"\.[^./]*$", "", plain)].append(name)
        return by_stem

    def masks(self, template: str, root: str, pieces: Mapping[str, str], image: str) -> list[str]:
        """The files that a mask template with its ``pieces`` filled in names, but not the ``image`` itself.

        Names are equal when their NFC forms are.
        """
        body, suffix = split_suffix(root + fill(template, pieces))
        if "*" in template.removesuffix(".*"):
            near, pattern = (
                self._folders.get(str(PurePosixPath(body).parent), ()),
                name_pattern(template, pieces),
            )
            matching = [name for name in near if pattern.fullmatch(nfc(PurePosixPath(name).name))]
        else:
            near, pattern = self._stems.get(body, ()), suffix_pattern(suffix)
            matching = [name for name in near if pattern.fullmatch(PurePosixPath(name).suffix)]
        return [name for name in matching if name != image]


def look(folder: Path, called: str = "") -> Tree:
    """List a source's files: below ``folder``, or below the one in it that holds the tables and every image.

    A folder that is itself one class (it holds Images or Nd) is listed with its name in front.

    Args:
        folder: of the source.
        called: its name, where the folder's own says nothing (an unpacked archive).

    Raises:
        DataError: dangling links, or folders that can't be listed.
    """
    problems: list[str] = []
    files = list_files(folder, problems)
    refuse(problems, MEND)
    top = _top(files)
    if top:
        folder, called = folder / top, ""
        files = [name.removeprefix(f"{top}/") for name in files if name.startswith(f"{top}/")]
    front = ""
    if any((folder / name).is_dir() for name in ("Images", "Nd")):
        front = f"{called or Path(os.path.normpath(folder.absolute())).name}/"
    return Tree(folder, front, tuple(front + name for name in files))


def _top(files: Sequence[str]) -> str:
    """The folder that holds the tables and every image (archives often pack one), or empty: all of it."""
    tables = {PurePosixPath(name).parent for name in files if PurePosixPath(name).name in (DATASET, SOURCES)}
    if len(tables) != 1:
        return ""
    top = str(tables.pop())
    inside = all(name.startswith(f"{top}/") for name in files if image_like(name))
    return top if top != "." and inside else ""
