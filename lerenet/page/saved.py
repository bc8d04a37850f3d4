"""What was saved of which photo since the page runs, so that nobody replaces unseen what another one said."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lerenet.errors import DataError
from lerenet.files import sha256_file
from lerenet.page.photos import Photo


@dataclass(frozen=True)
class Last:
    """The newest save of a photo in a class: of which upload, by whom, and when as `Photo.taken` counts."""

    key: str
    by: str
    at: float


class Saved:
    """Saves, one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str], Last] = {}
        self._told: dict[tuple[str, str], float] = {}  # upload and class -> until when its inspector knows

    @contextmanager
    def saving(self, photo: Photo, cls: str, by: str) -> Iterator[None]:
        """A save; it counts when the block succeeds.

        Raises:
            DataError: somebody else saved the same photo for the class since this one was taken. That is said once.
        """
        place, own = (cls, sha256_file(photo.path)), (photo.key, cls)
        with self._lock:
            last = self._last.get(place)
            if last and last.key != photo.key and last.at > self._told.get(own, photo.taken):
                self._told[own] = last.at
                raise DataError(
                    f"{photo.name}: {last.by} saved it for {cls} meanwhile, and that stands",
                    "save once more to replace it by yours",
                )
            yield
            self._last[place] = Last(photo.key, by, time.monotonic())
