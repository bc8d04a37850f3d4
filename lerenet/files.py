"""Files that are either whole or not there: atomic writes, digests, free space."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lerenet.errors import LerenetError

TEMPORARY = ".lerenet-tmp-"
LONGEST = 255  # bytes of a file's name


def shown(path: Path | str) -> str:
    """A path as printable text: bytes that are no UTF-8 are written as ``\\xNN``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _temporary(path: Path, mark: str = "") -> Path:
    """The temporary of this process beside ``path``; a name that would be too long is replaced by its digest."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{mark}{_short(path)}")


def _short(path: Path) -> str:
    name = os.fsencode(path.name)
    room = LONGEST - len(f"{TEMPORARY}4194304-old-")
    return path.name if len(name) <= room else hashlib.sha256(name).hexdigest()[:32] + path.suffix[-16:]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is between here and the end of its own block of the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it replaces ``path`` only when the block succeeds.

    The temporary keeps the suffix of ``path``, is synced to disk before ``os.replace``, and is
    removed when the block raises, so a reader sees the old file or the new one, never a part. What
    a killed process left of the same file goes, too.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in _abandoned(path):
        if leftover.is_file():
            leftover.unlink(missing_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise LerenetError(
            f"{path}: can't be written: {error.strerror or error}",
            "free disk space or choose another folder; the file that stood there is unchanged",
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _abandoned(path: Path) -> Iterator[Path]:
    """Temporaries of ``path`` and of its older self that no living process works on."""
    name = _short(path)
    for leftover in list(path.parent.glob(f"{TEMPORARY}*-{glob.escape(name)}")):
        pid, _, rest = leftover.name.removeprefix(TEMPORARY).partition("-")
        if rest not in (name, f"old-{name}"):
            continue
        if pid.isdigit() and Path(f"/proc/{pid}").exists() and int(pid) != os.getpid():
            continue  # another process is at work
        yield leftover


def recover_dir(path: Path) -> None:
    """Mend what a process killed inside `atomic_dir` left: the old folder comes back, the rest goes."""
    path = _real(path)
    for leftover in _abandoned(path):
        if leftover.name.endswith(f"-old-{_short(path)}") and not path.exists():
            os.replace(leftover, path)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _real(path: Path) -> Path:
    """Where a folder really is: what replaces it must not replace a link to another disk."""
    path = Path(path)
    return path.resolve() if path.is_symlink() else path


@contextmanager
def scratch_dir(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path`` that is gone afterwards; a killed one's goes next time."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_dir(path)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it becomes ``path`` when the block succeeds.

    An older folder at ``path`` is replaced only then, with the new one on disk; where ``path`` is a link, the folder
    that it leads to. On any error nothing is left behind.
    """
    path = _real(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_dir(path)
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    old = _temporary(path, "old-")
    try:
        yield temporary
        os.sync()  # all of its files, before the old folder goes
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise LerenetError(
            f"{path}: can't be written: {error.strerror or error}",
            "free disk space or choose another folder; nothing was changed",
        ) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` atomically as indented JSON with sorted keys; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        LerenetError: when the file is missing or is not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LerenetError(f"{path}: not found", "run the stage that makes it: `dvc repro`") from error
    except ValueError as error:
        raise LerenetError(f"{path}: not valid JSON: {error}", "delete it and run `dvc repro`") from error


def state_of(path: Path) -> tuple[int, int, int]:
    """What of a file changes when it is written, without reading it; zeros where there is none."""
    status = path.stat() if path.exists() else None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if status else (0, 0, 0)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_digest(path: Path) -> None:
    """Keep the SHA-256 of a file beside it, for `is_whole`."""
    write_text(_digest_of(path), sha256_file(path))


def is_whole(path: Path) -> bool:
    """Whether a file is there as it was when `write_digest` saw it: neither cut nor changed since."""
    digest = _digest_of(path)
    return path.is_file() and digest.is_file() and sha256_file(path) == digest.read_text(encoding="utf-8")


def _digest_of(path: Path) -> Path:
    return path.with_suffix(".sha256")


def signature(folder: Path, ending: str = "") -> str:
    """Digest of the names, sizes and modification times of a folder's files; empty without the folder.

    Args:
        folder: all below it counts.
        ending: only files whose names end so.
    """
    if not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(name for name in files if name.endswith(ending)):
            path = Path(root, name)
            try:
                status = path.stat()
            except FileNotFoundError:  # replaced while we look; the next look sees the new one
                continue
            digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def require_space(folder: Path, needed: int) -> None:
    """Raise when the file system of ``folder`` has fewer than ``needed`` bytes free."""
    folder = Path(folder)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise LerenetError(
            f"{folder}: {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB needed",
            "free disk space, then run the command again",
        )


def sweep_temporaries(folder: Path) -> None:
    """Remove what a killed process left half-written in ``folder``."""
    for leftover in Path(folder).glob(f"{TEMPORARY}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
