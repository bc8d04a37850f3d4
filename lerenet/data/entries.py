"""The images of a data folder with their masks; every other image-like file in it is named."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from lerenet.data.listing import image_like, list_files, passed_over, readable
from lerenet.data.names import differ_in_case, is_utf8, nfc
from lerenet.files import shown

FOLDERS = ("Images", "GT", "Nd")
NOT_UTF8 = "its name is not UTF-8; rename it"


@dataclass(frozen=True)
class Entry:
    """An image that waits to be measured; ``mask`` is None for a clean one."""

    cls: str
    kind: str
    image: Path
    mask: Path | None


def find_entries(data: Path, problems: list[str]) -> list[Entry]:
    """Every image of ``data``, class by class; what can't be used is added to ``problems``."""
    folders = sorted(path for path in data.iterdir() if path.is_dir() and not passed_over(path.name))
    classes = [path for path in folders if _is_class(path, problems)]
    problems += differ_in_case(path.name for path in classes)
    entries = [entry for path in classes for entry in _of_class(path, problems)]
    problems += _astray(data, {path.name for path in classes}, problems)
    return entries


def _is_class(folder: Path, problems: list[str]) -> bool:
    if not is_utf8(folder.name):
        problems.append(f"{shown(folder)}: {NOT_UTF8}")
    elif not any((folder / name).is_dir() for name in FOLDERS):
        problems.append(f"{shown(folder)}: a class folder without Images, GT or Nd")
    else:
        return True
    return False


def _of_class(folder: Path, problems: list[str]) -> list[Entry]:
    images, masks, clean = (_by_stem(folder / name, problems) for name in FOLDERS)
    problems += [f"{path}: has no mask in GT" for stem, path in images.items() if stem not in masks]
    problems += [f"{path}: a mask without an image" for stem, path in masks.items() if stem not in images]
    problems += [
        f"{path}: same name as {images[stem]}; their groups would mix"
        for stem, path in clean.items()
        if stem in images
    ]
    both = sorted(images.keys() & masks.keys())
    return [
        *(Entry(folder.name, "defect", images[stem], masks[stem]) for stem in both),
        *(Entry(folder.name, "clean", path, None) for path in clean.values()),
    ]


def _by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    """The images of one folder by their stems in NFC; all their names are UTF-8."""
    masks: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        reason = _reason(path, masks)
        if reason:
            problems.append(f"{shown(path)}: {reason}")
        elif path.is_file() and not passed_over(path.name):
            masks[nfc(path.stem)] = path
    return masks


def _reason(path: Path, masks: dict[str, Path]) -> str:
    """Why a file or folder can't be an image or mask; links to nothing are named by `list_files`."""
    if passed_over(path.name) or (path.is_symlink() and not path.exists()):
        return ""
    if not is_utf8(path.name):
        return NOT_UTF8
    if path.is_dir():
        return "a folder; images lie directly in Images, GT and Nd"
    if not readable(path.name):
        return "unknown file type"
    stem = nfc(path.stem)
    return f"same name as {masks[stem].name}" if stem in masks else ""


def _astray(data: Path, classes: Collection[str], problems: list[str]) -> list[str]:
    """Image-like files at the top, and in classes outside their three folders."""
    names = (name.split("/") for name in list_files(data, problems) if image_like(name))
    lost = [
        parts
        for parts in names
        if len(parts) == 1 or (parts[0] in classes and not (len(parts) > 2 and parts[1] in FOLDERS))
    ]
    return [f"{shown(data / '/'.join(parts))}: is not in a class's Images, GT or Nd" for parts in lost]
