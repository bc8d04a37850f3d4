"""Names of masks and overlays: readable, all different on any file system, never too long."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lerenet.files import LONGEST
from lerenet.predict.queries import real
from lerenet.predict.results import sha256

MASK, OVERLAY = "_mask.png", "_overlay.png"
MARKS = "_marks.png"  # of an inspection: 0, or the number of the class
ROOM = LONGEST - len(OVERLAY)  # bytes


def output_names(queries: Sequence[Path]) -> list[str]:
    """One name a query: its stem, with folder and suffix where stems repeat.

    All are different, also where a file system takes upper and lower case, or two ways to write an accent, for the
    same. A byte that is no UTF-8 is written ``%NN``; a name without room for its ending is cut and gets a digest.
    """
    repeated = Counter(_key(_printable(query.stem)) for query in queries)
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    names = []
    for query in queries:
        for option in _options(query, repeated, numbers):
            name = _fitting(option)
            if _key(name) not in taken:
                break
        taken.add(_key(name))
        names.append(name)
    return names


def _options(query: Path, repeated: Counter[str], numbers: Counter[str]) -> Iterator[str]:
    stem, suffix = _printable(query.stem), _printable(query.suffix.lstrip("."))
    folder = _printable(real(query).parent.name)
    if repeated[_key(stem)] == 1:
        yield stem
    yield f"{folder}_{stem}"
    yield f"{folder}_{stem}_{suffix}"
    for _ in itertools.count():
        numbers[stem] += 1
        yield f"{stem}_{numbers[stem] + 1}"


def _printable(name: str) -> str:
    return re.sub(r"[\udc80-\udcff]", lambda found: f"%{ord(found[0]) - 0xDC00:02X}", name)


def _key(name: str) -> str:
    """The same for names that some file system takes for the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _fitting(name: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) <= ROOM:
        return name
    return f"{encoded[: ROOM - 9].decode('utf-8', 'ignore')}-{sha256(encoded)[:8]}"
