"""What is wrong with the images that were found, before any is decoded: all of it, by name."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from lerenet.data.dataset import DATASET, KINDS, SOURCES, Row
from lerenet.data.importing.found import Found
from lerenet.data.importing.layouts import Rule
from lerenet.data.importing.tree import Tree
from lerenet.data.listing import readable
from lerenet.data.names import CLASS_NAME, differ_in_case, nfc
from lerenet.files import shown


def problems_of(pictures: Sequence[Found]) -> list[str]:
    """Masks that are missing or one too many, images found twice or named alike, and names no class can have."""
    names = sorted({item.cls for item in pictures if not CLASS_NAME.match(item.cls)})
    return [
        *_masks(pictures),
        *_two_rules(pictures),
        *_twice(pictures),
        *(f"class name {name!r}: letters, digits and _ only, 64 at most" for name in names),
        *differ_in_case({item.cls for item in pictures}),
    ]


def _masks(pictures: Sequence[Found]) -> list[str]:
    problems = []
    for item in pictures:
        if not item.masks and item.wanted and not item.rule.no_mask_is_clean:
            problems.append(f"{shown(item.image)}: its mask {shown(item.wanted)} is missing")
        elif len(item.masks) > 1 and not item.rule.joins:
            names = " and ".join(shown(path.name) for path in item.masks)
            problems.append(f"{shown(item.image)}: {len(item.masks)} masks, {names}; one is expected")
    return problems


def _two_rules(pictures: Sequence[Found]) -> list[str]:
    rules: dict[str, list[Rule]] = defaultdict(list)
    for item in pictures:
        rules[item.path].append(item.rule)
    return [
        f"{shown(path)}: found by {' and '.join(rule.images for rule in found)}; leave it out of one with exclude"
        for path, found in rules.items()
        if any(rule != found[0] for rule in found)
    ]


def _twice(pictures: Sequence[Found]) -> list[str]:
    """Images that would get the same name in the same class."""
    counts = Counter((item.cls, item.stem) for item in pictures)
    return [
        f"{shown(item.image)}: {counts[item.cls, item.stem]} images would be named {item.cls}/{item.stem}"
        for item in pictures
        if counts[item.cls, item.stem] > 1
    ]


def leftovers(tree: Tree, pictures: Sequence[Found], unused: Sequence[str]) -> list[str]:
    """In the canonical layout: what lies in its folders or looks like an image, and belongs to no image."""
    used = {item.image for item in pictures}.union(*(item.masks for item in pictures))
    folders = re.compile(r"(?:.*/)?[^/]+/(Images|GT|Nd)/[^/]+", re.DOTALL)
    left = [name for name in tree.files if folders.fullmatch(name) and tree.path(name) not in used]
    astray = [name for name in unused if not folders.fullmatch(name)]
    return [
        *(f"{shown(tree.path(name))}: {_reason(name)}" for name in left),
        *(f"{shown(tree.path(name))}: is not directly in a class's Images, GT or Nd" for name in astray),
    ]


def _reason(name: str) -> str:
    in_masks = PurePosixPath(name).parent.name == "GT"
    return "a mask without an image" if in_masks and readable(name) else "unknown file type"


def table_problems(tree: Tree, pictures: Sequence[Found], table: Mapping[str, Row]) -> list[str]:
    """In the canonical layout: tables that are not at the top, and rows of sources.csv without an image.

    Rows of classes that are not there at all are no problem: a few classes may be imported alone.
    """
    depth = tree.front.count("/")
    astray = [
        name
        for name in tree.files
        if PurePosixPath(name).name in (DATASET, SOURCES) and name.count("/") > depth
    ]
    paths, classes = {nfc(item.path) for item in pictures}, {item.cls for item in pictures}
    lost = [file for file in table if file not in paths and not _of_another(file, classes)]
    return [
        *(f"{shown(tree.path(name))}: only a table beside the class folders is read" for name in astray),
        *(f"{file}: named in {SOURCES}, but not there" for file in lost),
    ]


def _of_another(file: str, classes: set[str]) -> bool:
    parts = file.split("/")
    return len(parts) == 3 and parts[1] in KINDS and parts[0] not in classes
