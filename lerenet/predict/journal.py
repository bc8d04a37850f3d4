"""The journal of a call: one line a finished query, so that an interrupted call goes on; and the folder's lock."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lerenet.errors import LerenetError
from lerenet.files import TEMPORARY, shown
from lerenet.predict.earlier import HEAD
from lerenet.predict.results import JOURNAL, Prediction, sha256

PART = f"{TEMPORARY}predict-"  # begins the temporary names in the folder


class Journal:
    """Appends to the journal of a folder, from any thread, and writes the files that it has announced.

    A file's line comes first: what a kill leaves is either as the journal says, or is made again.
    """

    def __init__(self, out: Path, handle: int) -> None:
        self.out, self._handle, self._lock = out, handle, threading.Lock()

    def begin(self, digest: str) -> None:
        """What follows belongs to the call with this digest."""
        with self._lock:
            size = os.fstat(self._handle).st_size
            torn = size > 0 and os.pread(self._handle, 1, size - 1) != b"\n"
            line = HEAD + f', "digest": {json.dumps(digest)}}}\n'.encode()
            self._append(b"\n" + line if torn else line)

    def write(self, row: Prediction, mask: bytes, overlay: bytes) -> None:
        """Announce a query's row and write its files."""
        self._add({"row": asdict(row)})
        self._replace(row.overlay, overlay)
        self._replace(row.mask, mask)

    def failed(self, row: Prediction) -> None:
        """Note a query that has no mask."""
        self._add({"row": asdict(row)})

    def announce(self, name: str, content: bytes) -> None:
        """Note that ``name`` will hold ``content``."""
        self._add({"file": name, "sha256": sha256(content)})

    def end(self) -> None:
        """Remove the journal: all that it says stands in the tables."""
        (self.out / JOURNAL).unlink(missing_ok=True)

    def _add(self, value: dict[str, Any]) -> None:
        with self._lock:
            self._append(json.dumps(value).encode() + b"\n")

    def _append(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._handle, line) :]

    def _replace(self, name: str, content: bytes) -> None:
        temporary = self.out / f"{PART}{sha256(os.fsencode(name))[:32]}.png"
        temporary.write_bytes(content)
        temporary.replace(self.out / name)


@contextmanager
def opened(out: Path) -> Iterator[Journal]:
    """The journal of the folder ``out``, which is made where it is missing; no other call can open it meanwhile.

    A journal, and a folder, in which nothing was written goes again.

    Raises:
        LerenetError: another call is at work there, or ``out`` can't be written.
    """
    fresh = not out.exists()
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        handle = locked(out / JOURNAL, _opened, out, "predict")
    try:
        for leftover in out.glob(f"{PART}*"):
            leftover.unlink(missing_ok=True)
        yield Journal(out, handle)
    finally:
        if os.fstat(handle).st_size == 0:
            (out / JOURNAL).unlink(missing_ok=True)
        os.close(handle)
        if fresh:
            with suppress(OSError):
                out.rmdir()


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Tell what the disk refuses as a LerenetError that names ``out``."""
    try:
        yield
    except OSError as error:
        reason = f"{shown(out)}: can't be written: {error.strerror or error}"
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free disk space; the same command then goes on" if full else "choose another --out"
        raise LerenetError(reason, remedy) from error


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)


def locked(path: Path, opened: Callable[[Path], int], out: Path, command: str) -> int:
    """Open and lock what marks a call at work; one that its owner removed while we waited is made anew.

    Args:
        path: of a file or a folder.
        opened: makes and opens it.
        out: the folder that the call writes, for the message.
        command: which kind of call.

    Raises:
        LerenetError: another call holds the lock.
    """
    while True:
        handle = opened(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise LerenetError(
                f"{shown(out)}: another `lerenet {command}` is at work there",
                "wait for it, or choose another --out",
            ) from error
        except OSError:  # a file system without locks
            return handle
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)
