"""The formats by their names: which one a path is of, and how it is read."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerenet.errors import DataError
from lerenet.files import shown

if TYPE_CHECKING:
    from lerenet.annotations.regions import AnnotatedImage

READERS = {  # name on the command line -> module with ``read``
    "coco": "coco",
    "labelme": "labelme",
    "cvat": "cvat",
    "label-studio": "label_studio",
    "yolo-seg": "yolo",
    "voc": "voc",
}
FILES = {"coco": ".json", "labelme": ".json", "label-studio": ".json", "cvat": ".xml"}  # formats of files
NEAR = ("", "annotations", "Annotations")  # where an export's folder holds them


def module(kind: str) -> Any:
    """The module of a format.

    Raises:
        DataError: no such format; the message lists them.
    """
    if kind not in READERS:
        raise DataError(f"{kind!r}: no annotation format", f"one of {', '.join(READERS)}")
    return importlib.import_module(f"lerenet.annotations.{READERS[kind]}")


def read(path: Path, kind: str) -> Iterator[AnnotatedImage]:
    """Every image of an export, a file or a folder with files of one format.

    Raises:
        DataError: no such format, no such file, or see the format's ``read``.
    """
    reader = module(kind)
    if kind not in FILES or path.is_file():
        yield from reader.read(path)
        return
    files = [file for file in _files(path) if kind_of(file) == kind]
    if not files:
        raise DataError(f"{shown(path)}: holds no {kind} file ({FILES[kind]})", "give the file itself")
    for file in files:
        yield from reader.read(file)


def detect(path: Path) -> str | None:
    """The format of a file, or of the files in a folder; None where it is none.

    Raises:
        DataError: a folder with files of two formats.
    """
    if path.is_file():
        return kind_of(path)
    if module("voc").is_voc(path):
        return "voc"
    if (path / "data.yaml").is_file():
        return "yolo-seg"
    kinds = sorted({kind for file in _files(path) if (kind := kind_of(file))})
    if len(kinds) > 1:
        raise DataError(
            f"{shown(path)}: holds files of {' and '.join(kinds)}", "say which one: --kind, or give the file"
        )
    return kinds[0] if kinds else None


def kind_of(file: Path) -> str | None:
    """The format of one file, by what it holds."""
    status = file.stat()
    return _kind_of(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=100_000)
def _kind_of(file: Path, _changed: int, _size: int) -> str | None:
    """Parsed once, as long as the file stays as it is."""
    if file.suffix.lower() == ".xml":
        return "cvat" if module("cvat").is_cvat(file) else None
    if file.suffix.lower() in (".yaml", ".yml"):
        return "yolo-seg" if file.name == "data.yaml" else None
    if file.suffix.lower() != ".json":
        return None
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    tests = {
        name: getattr(module(name), f"is_{READERS[name]}") for name in ("coco", "labelme", "label-studio")
    }
    return next((name for name, test in tests.items() if test(value)), None)


def _files(folder: Path) -> list[Path]:
    return sorted(
        file
        for name in NEAR
        if (folder / name).is_dir()
        for file in (folder / name).iterdir()
        if file.is_file() and file.suffix.lower() in FILES.values() and not file.name.startswith(".")
    )
