"""Path templates: ``{cls}/test/{defect}/{id}.*``.

A piece in braces and ``*`` match anything but a slash. A suffix matches in capitals or small letters, ``.jpg`` as
``.jpeg``, ``.tif`` as ``.tiff``, and ``.*`` is any suffix that is read. Folders before a template don't matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import PurePosixPath

from lerenet.data.images import SUFFIXES
from lerenet.data.names import nfc

PIECE = re.compile(r"\{(\w+)\}")
SAME = {"jpeg": "jpe?g", "jpg": "jpe?g", "tiff": "tiff?", "tif": "tiff?"}
ROOT = "(?P<root>(?:.*/)?)"


def fill(template: str, pieces: Mapping[str, str]) -> str:
    """``template`` with each ``{piece}`` replaced, in NFC."""
    return nfc(PIECE.sub(lambda match: pieces[match[1]], template))


def split_suffix(template: str) -> tuple[str, str]:
    """A template without its suffix, and the suffix without its dot: ``*``, ``png``, or empty."""
    match = re.fullmatch(r"(.*)\.(\*|[A-Za-z0-9]+)", template, re.DOTALL)
    return (match[1], match[2]) if match else (template, "")


@cache
def suffix_pattern(suffix: str) -> re.Pattern[str]:
    """The files' suffixes, with their dots, that a template's ``suffix`` stands for."""
    if not suffix:
        return re.compile("")
    endings = "|".join(name[1:] for name in SUFFIXES)
    return re.compile(rf"\.(?i:{endings if suffix == '*' else SAME.get(suffix.lower(), re.escape(suffix))})")


@cache
def path_pattern(template: str) -> re.Pattern[str]:
    """A template as a regular expression over a posix path in NFC: its pieces, and ``root`` for what is before."""
    body, suffix = split_suffix(nfc(template))
    text, seen = ROOT, set()
    for place, part in enumerate(PIECE.split(body)):
        if place % 2 == 0:
            text += re.escape(part).replace(r"\*", "[^/]*")
        else:
            text += f"(?P={part})" if part in seen else f"(?P<{part}>[^/]+?)"
            seen.add(part)
    return re.compile(text + suffix_pattern(suffix).pattern, re.DOTALL)


def name_pattern(template: str, pieces: Mapping[str, str]) -> re.Pattern[str]:
    """The last part of a ``template`` as a regular expression over a file's name in NFC, its pieces filled in."""
    body, suffix = split_suffix(PurePosixPath(nfc(template)).name)
    parts = PIECE.split(body)
    text = "".join(
        re.escape(pieces[part]) if place % 2 else re.escape(part).replace(r"\*", "[^/]*")
        for place, part in enumerate(parts)
    )
    return re.compile(text + suffix_pattern(suffix).pattern, re.DOTALL)


def fixed_letters(template: str) -> int:
    """How many letters of a template, without its suffix, are no pieces: the more, the less it matches by chance."""
    return len(PIECE.sub("", split_suffix(template)[0]))
