"""Children in sessions of their own: forked, so that the seconds of importing are paid once."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SUBREAPER = 36  # of prctl


def adopt() -> None:
    """Become the parent of what killed children leave: a zombie that nobody waits for is alive to DVC.

    Linux only; elsewhere init does it.
    """
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def start(work: Callable[[], None], log: Path) -> int:
    """Fork a child that does ``work`` in a new session, its output in ``log``; return its pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(pid: int) -> int:
    """Wait for a child; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(work: Callable[[], None], log: Path) -> int:
    """Do ``work`` in a child to its end; the exit code."""
    return finish(start(work, log))


def kill(pid: int, seconds: float | None) -> bool:
    """Let the child go on for ``seconds`` (None: until it dies), then kill its session; was it cut off?"""
    deadline = None if seconds is None else time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if deadline is not None and time.monotonic() > deadline:
            break
        time.sleep(0.002)
    with suppress(ProcessLookupError):  # killed before it was a group of its own
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    return finish(pid) == -signal.SIGKILL


def reap() -> None:
    """Wait for adopted children that ended; none of our own may run."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def orphans(session: int) -> list[int]:
    """Processes of a killed session that are still there after five seconds."""
    deadline = time.monotonic() + 5
    while (found := _living(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _living(session: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) != session:
            continue
        pid = int(path.parent.name)
        if fields[0] != "Z":
            found.append(pid)
            continue
        try:
            gone = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            gone = False
        if not gone:  # its parent, or a thread of it, is still dying, and DVC would take it for alive
            found.append(pid)
    return found
