"""Unpack zip and tar archives that may be hostile: nothing lands outside the folder, nothing floods it."""

from __future__ import annotations

import errno
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from lerenet.errors import DataError
from lerenet.files import require_space, shown

BY_HAND = "unpack it by hand, look at what is inside, and import the folder"


@dataclass(frozen=True)
class Limits:
    """What an archive may hold; beyond it is taken for a bomb."""

    files: int = 200_000
    total: int = 40_000_000_000  # bytes unpacked
    ratio: float = 200.0  # bytes unpacked a byte of archive, once over `small`
    small: int = 200_000_000  # bytes unpacked that are never a bomb


@dataclass(frozen=True)
class _Member:
    name: str  # with slashes
    size: int  # bytes
    refusal: str  # why it is no plain file or folder, or ""
    folder: bool
    open: Callable[[], IO[bytes] | None]


def is_archive(path: Path) -> bool:
    """Whether ``path`` is a zip or tar file (plain, gz, bz2 or xz), by its content."""
    return path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))


def class_of(path: Path) -> str:
    """An archive's name without its endings: the name of the class in it, when it holds one alone."""
    return re.sub(r"(?i)(\.(zip|tar|tgz|tbz2?|txz|gz|bz2|xz))+$", "", path.name)


def extract(archive: Path, into: Path, limits: Limits | None = None) -> int:
    """Unpack ``archive`` into the existing folder ``into``; returns the number of files.

    Only plain files and folders are made, with new permissions and times.

    Raises:
        DataError: a member with an absolute path, ``..``, a link or a device; too many files or
            bytes; a damaged or encrypted archive. The message names the member.
        LerenetError: not enough space.
    """
    limits = limits or Limits()
    seen: set[PurePosixPath] = set()
    total = 0
    try:
        with ExitStack() as stack:
            for member in _members(archive, stack):
                target = _checked(archive, member)
                total += member.size
                _within(archive, member, limits, len(seen) + 1, total)
                if target in seen and not member.folder:
                    raise DataError(f"{shown(archive)}: {member.name!r} is there twice", BY_HAND)
                seen.add(target)
                _place(member, into / target)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        RuntimeError,
        FileExistsError,
        NotADirectoryError,
    ) as error:
        raise DataError(
            f"{shown(archive)}: damaged or encrypted: {error}", "fetch it again, or unpack it by hand"
        ) from error
    except OSError as error:
        remedy = "free disk space, then repeat it" if error.errno in (errno.ENOSPC, errno.EDQUOT) else BY_HAND
        reason = f"{error.strerror or error}: {shown(error.filename)}" if error.filename else error.strerror
        raise DataError(f"{shown(archive)}: can't be unpacked: {reason or error}", remedy) from error
    return sum(1 for path in into.rglob("*") if path.is_file())


def _members(archive: Path, stack: ExitStack) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        return _zip_members(stack.enter_context(zipfile.ZipFile(archive)))
    return _tar_members(stack.enter_context(tarfile.open(archive)))


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        refusal = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else _KINDS.get(kind, "a special file")
        name = info.filename.replace("\\", "/")  # some tools of Windows write paths so
        yield _Member(name, info.file_size, refusal, name.endswith("/"), partial(archive.open, info))


_KINDS = {stat.S_IFLNK: "a link", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def _tar_members(archive: tarfile.TarFile) -> Iterator[_Member]:
    for info in archive:
        refusal = "" if info.isreg() or info.isdir() else "a device or pipe"
        if info.issym() or info.islnk():
            refusal = "a link"
        yield _Member(info.name, info.size, refusal, info.isdir(), partial(archive.extractfile, info))


def _checked(archive: Path, member: _Member) -> PurePosixPath:
    """The member's place below the folder."""
    name, path = member.name, PurePosixPath(member.name)
    reason = member.refusal
    if path.is_absolute() or name[1:2] == ":":
        reason = "an absolute path"
    elif ".." in path.parts or "\\" in name or "\0" in name or not name.strip():
        reason = "a path that leaves its folder"
    if reason:
        raise DataError(f"{shown(archive)}: {name!r} is {reason}; nothing was unpacked", BY_HAND)
    return path


def _within(archive: Path, member: _Member, limits: Limits, files: int, total: int) -> None:
    flood = total > limits.small and total > limits.ratio * archive.stat().st_size
    if files > limits.files or total > limits.total or flood:
        raise DataError(
            f"{shown(archive)}: {member.name!r}: {files} files and {total / 1e6:.0f} MB so far, "
            f"from {archive.stat().st_size / 1e6:.1f} MB: looks like a bomb; nothing was unpacked",
            BY_HAND,
        )


def _place(member: _Member, target: Path) -> None:
    if member.folder:
        target.mkdir(parents=True, exist_ok=True)
        return
    require_space(target.parent, member.size)
    target.parent.mkdir(parents=True, exist_ok=True)
    source = member.open()
    if source is None:
        raise DataError(f"{member.name!r}: can't be read from the archive", BY_HAND)
    with source, target.open("xb") as handle:
        shutil.copyfileobj(source, handle)
