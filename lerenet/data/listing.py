"""What lies in a folder: links followed, dangling ones named, the litter of file managers passed over."""

from __future__ import annotations

from pathlib import Path

from lerenet.data.images import SUFFIXES
from lerenet.files import shown

# Pictures in formats that are not read: they are named, never left out without a word.
UNREAD = (
    ".arw", ".avif", ".cr2", ".cr3", ".dcm", ".dib", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif", ".ico", ".j2k",
    ".jfif", ".jp2", ".jpe", ".jxl", ".mat", ".nef", ".npy", ".npz", ".orf", ".pbm", ".pgm", ".pnm", ".ppm", ".psb",
    ".psd", ".raf", ".raw", ".rw2", ".svg", ".tga", ".xcf",
)  # fmt: skip
IMAGE_LIKE = frozenset((*SUFFIXES, *UNREAD))
LITTER = ("Thumbs.db", "desktop.ini", "__MACOSX")


def image_like(name: str) -> bool:
    """Whether a file's name says that it is a picture, of a format that is read or not."""
    return suffix(name) in IMAGE_LIKE


def readable(name: str) -> bool:
    """Whether a file's name says that it is a picture of a format that is read."""
    return suffix(name) in SUFFIXES


def suffix(name: str) -> str:
    """The suffix of a path in small letters: ``.png``; empty when there is none."""
    return Path(name).suffix.lower()


def passed_over(name: str) -> bool:
    """Whether a file or folder is hidden, or litter of Windows or macOS."""
    return name.startswith(".") or name in LITTER


def list_files(folder: Path, problems: list[str]) -> list[str]:
    """Posix paths of the files below ``folder``, sorted, without hidden ones.

    Links to folders are followed, except to one that holds the link. Links to nothing, links to what is listed
    already, and what can't be listed are added to ``problems``.
    """
    files: list[str] = []
    listed: dict[Path, Path] = {}
    folders: list[tuple[Path, str]] = [(folder, "")]
    links: list[tuple[Path, str]] = []
    while folders or links:  # links last: what is there twice is named by its link
        here, front = folders.pop() if folders else links.pop()
        if not _is_new(here, folder, listed, problems):
            continue
        for path in _entries(here, problems):
            kind = _kind(path)
            if kind == "folder":
                (links if path.is_symlink() else folders).append((path, f"{front}{path.name}/"))
            elif kind == "file":
                files.append(front + path.name)
            else:
                problems.append(f"{shown(path)}: {kind}")
    return sorted(files)


def _is_new(path: Path, top: Path, listed: dict[Path, Path], problems: list[str]) -> bool:
    """Whether a folder was not listed yet, by any name; it is entered into ``listed``."""
    real, holder = path.resolve(), path.parent.resolve()
    if path != top and (real == holder or real in holder.parents):
        return False  # the way back up
    if real in listed:
        problems.append(f"{shown(path)}: leads to {shown(listed[real])}, which is listed already")
        return False
    listed[real] = path
    return True


def _entries(folder: Path, problems: list[str]) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not passed_over(path.name)]
    except OSError as error:
        problems.append(f"{shown(folder)}: can't be listed: {error.strerror}")
        return []


def _kind(path: Path) -> str:
    """``folder``, ``file``, or what else is there."""
    try:
        if path.is_dir():
            return "folder"
        return "file" if path.is_file() else "a link to nothing" if path.is_symlink() else "no plain file"
    except OSError as error:
        return f"can't be read: {error.strerror}"
