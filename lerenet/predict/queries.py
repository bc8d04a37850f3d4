"""Which images to segment: files as they are given, and all images of a folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from lerenet.data.images import SUFFIXES
from lerenet.errors import DataError
from lerenet.files import shown
from lerenet.predict.earlier import Earlier

# Images by their names that people have, too; reading one says why it can't be used.
OTHERS = (
    ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpf", ".jpx", ".jxl", ".jfif", ".jpe", ".jxr", ".psd",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".raw",
    ".pgm", ".ppm", ".pbm", ".pnm", ".pam", ".pcx", ".tga", ".dib", ".exr", ".hdr", ".svg", ".dcm", ".apng",
)  # fmt: skip
ENDINGS = (*SUFFIXES, *OTHERS)


def find_queries(given: Sequence[Path], out: Path) -> list[Path]:
    """The files to segment, in the order given, each once; a folder stands for its images, by name.

    A folder is gone through with all below it: links are followed, hidden files and folders are left out, and so are
    the folder ``out`` and what earlier calls wrote anywhere.

    Raises:
        DataError: nothing given, no such file, or a folder that can't be read or holds no image.
    """
    if not given:
        raise DataError("no query given", "name the images to segment, or their folder: --query IMG [IMG …]")
    paths: dict[Path, Path] = {}
    for path in map(Path, given):
        for query in _in_folder(path, out) if path.is_dir() else [existing(path)]:
            paths.setdefault(real(query), query)
    return list(paths.values())


def real(path: Path) -> Path:
    """Where a path leads, links followed; one that leads in a circle is left as it is."""
    return Path(os.path.realpath(path))


def existing(path: Path) -> Path:
    """``path``, which must be a file.

    Raises:
        DataError: it isn't.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "not found"
        raise DataError(
            f"{shown(path)}: {what}", "name image files; a shell glob such as parts/*.jpg will do"
        )
    return path


def _in_folder(folder: Path, out: Path) -> list[Path]:
    files = sorted(_walk(folder, real(out), set()), key=os.fsencode)
    if not files:
        raise DataError(
            f"{shown(folder)}: no image in it", f"name a folder with images ({', '.join(SUFFIXES)})"
        )
    return files


def _walk(folder: Path, out: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Image files in and below ``folder``; a folder that was seen, by a link, is not seen again."""
    try:
        facts = folder.stat()
        entries = [(entry, entry.is_dir()) for entry in sorted(folder.iterdir())]
    except OSError as error:
        raise DataError(
            f"{shown(folder)}: can't be read: {error.strerror}", "mend its permissions"
        ) from error
    if (facts.st_dev, facts.st_ino) in seen:
        return
    seen.add((facts.st_dev, facts.st_ino))
    ours: Collection[str] = Earlier.read(folder).files
    for entry, is_folder in entries:
        if entry.name.startswith(".") or entry.name in ours:
            continue
        if is_folder:
            if real(entry) != out:
                yield from _walk(entry, out, seen)
        elif entry.suffix.lower() in ENDINGS:
            yield entry
