"""Which file of a folder an export means by an image's name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from lerenet.data.listing import readable
from lerenet.data.names import nfc

MASKS = ("SegmentationClass", "SegmentationObject")  # folders of pictures that are none
UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an upload


class Images:
    """The images of a folder, by their names.

    Args:
        files: posix paths below the folder, of any kind.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self.files = [name for name in files if readable(name) and not {*name.split("/")[:-1]} & {*MASKS}]
        self._named: dict[str, list[str]] = defaultdict(list)
        for name in self.files:
            self._named[nfc(PurePosixPath(name).name)].append(name)
            self._named[nfc(PurePosixPath(name).stem)].append(name)

    def find(self, name: str) -> list[str]:
        """The files that a name may mean: those that share most of its path's end.

        It may be a path of another machine, an address, or lack its suffix.
        """
        parts = PurePosixPath(nfc(name).replace("\\", "/")).parts
        near = self._named.get(parts[-1], []) if parts else []
        if not near and parts and UPLOADED.match(parts[-1]):
            near = self._named.get(UPLOADED.sub("", parts[-1], count=1), [])
        folders = parts[-2::-1]
        shared = [_alike(folders, PurePosixPath(nfc(one)).parts[-2::-1]) for one in near]
        return [one for one, count in zip(near, shared, strict=True) if count == max(shared)]


def _alike(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many folders from the file upwards have the same names."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
