"""One at a time: what changes the project as a whole holds its lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from lerenet import layout


@contextmanager
def one_at_a_time(wait: bool) -> Iterator[bool]:
    """Hold the project's lock of the retraining; False when another one holds it and ``wait`` is not set.

    The kernel frees the lock when the process ends, however it ends.
    """
    layout.CHECKPOINTS.mkdir(exist_ok=True)
    lock = FileLock(layout.CHECKPOINTS / "retrain.lock", timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
