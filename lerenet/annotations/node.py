"""A value of a JSON export with its file and the way to it, so that every error names both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerenet.annotations.regions import Size, size_of
from lerenet.errors import DataError
from lerenet.files import shown

LARGE = 2**53  # numbers from here on are not exact
AGAIN = "export it again, or leave the file out"


@dataclass(frozen=True)
class Node:
    """One value.

    Args:
        path: the file.
        where: the way to the value, ``annotations[3].segmentation``; empty at the top.
        value: as JSON holds it.
    """

    path: Path
    where: str
    value: Any

    @property
    def place(self) -> str:
        """File and entry, for messages."""
        return f"{shown(self.path)}: {self.where}" if self.where else shown(self.path)

    def error(self, what: object, remedy: str = AGAIN) -> DataError:
        """An error that names file and entry."""
        return DataError(f"{self.place}: {what}", remedy)

    def get(self, key: str) -> Node | None:
        """The field ``key`` of an object; None where it is missing or null.

        Raises:
            DataError: the value is no object.
        """
        if not isinstance(self.value, dict):
            raise self.error("is no object")
        value = self.value.get(key)
        return None if value is None else Node(self.path, f"{self.where}.{key}".lstrip("."), value)

    def __getitem__(self, key: str) -> Node:
        """The field ``key`` of an object.

        Raises:
            DataError: it is missing or null.
        """
        node = self.get(key)
        if node is None:
            raise self.error(f"has no {key!r}")
        return node

    def __iter__(self) -> Iterator[Node]:
        """The values of a list.

        Raises:
            DataError: no list.
        """
        if not isinstance(self.value, list):
            raise self.error("is no list")
        return (Node(self.path, f"{self.where}[{place}]", one) for place, one in enumerate(self.value))

    def text(self) -> str:
        """A text that is not empty.

        Raises:
            DataError: anything else.
        """
        if not isinstance(self.value, str) or not self.value:
            raise self.error(f"{self.value!r:.60} is no text")
        return self.value

    def number(self) -> float:
        """A finite number.

        Raises:
            DataError: anything else.
        """
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.error(f"{self.value!r:.60} is no number")
        if not abs(self.value) < LARGE:
            raise self.error(f"{self.value!r:.60} is no number of pixels or ids")
        return float(self.value)

    def whole(self) -> int:
        """A whole number that is not negative.

        Raises:
            DataError: anything else.
        """
        number = self.number()
        if number != int(number) or number < 0:
            raise self.error(f"{self.value} is no whole number from 0 on")
        return int(number)

    def size(self, height: str, width: str) -> Size:
        """Height and width in these fields of an object.

        Raises:
            DataError: they are missing, or no size of an image.
        """
        try:
            return size_of(self[height].whole(), self[width].whole())
        except ValueError as error:
            raise self.error(error) from error

    def numbers(self) -> list[float]:
        """Numbers, of a list that may hold lists of them.

        Raises:
            DataError: anything else.
        """
        return [
            number
            for one in self
            for number in (one.numbers() if isinstance(one.value, list) else [one.number()])
        ]


def read_node(path: Path) -> Node:
    """The top of a JSON file.

    Raises:
        DataError: it can't be read, or is no JSON (cut off, for example).
    """
    try:
        return Node(path, "", json.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise DataError(
            f"{shown(path)}: can't be read: {error.strerror}", "give the export's file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown(path)}: not valid JSON: {error}", AGAIN) from error
