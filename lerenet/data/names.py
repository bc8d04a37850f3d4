"""Names of files and classes in any alphabet, normal form and length, and what they become in the data folder."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from lerenet.files import shown

CLASS_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_]{0,63}\Z")
LONGEST_STEM = 200  # characters; a suffix, and what others put before it, fit in a file system's 255 bytes


def nfc(text: str) -> str:
    """``text`` in the normal form NFC: names that look alike are equal, whatever system wrote them."""
    return unicodedata.normalize("NFC", text)


def is_utf8(name: str) -> bool:
    """Whether a file's name is valid UTF-8; Python holds other bytes as lone surrogates."""
    return not any("\udc80" <= letter <= "\udcff" for letter in name)


def safe_stem(text: str) -> str:
    """``text`` as a file name of letters, digits and ``_.-``.

    Accents are dropped and what is left becomes ``_``. Where letters are lost or the name is too long a digest of
    ``text`` follows, so that two names stay two, whatever other files there are.
    """
    bare = "".join(
        letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter)
    )
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", bare)
    stem = f"_{stem[1:]}" if stem.startswith(".") else stem  # else it is hidden
    return stem if text.isascii() and len(stem) <= LONGEST_STEM else marked(stem, text)


def marked(stem: str, text: str) -> str:
    """``stem``, cut where it is too long, with a digest of ``text`` at its end."""
    digest = hashlib.sha256(nfc(text).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return stem if stem.endswith(f"-{digest}") else f"{stem[: LONGEST_STEM - 9]}-{digest}"


def differ_in_case(classes: Iterable[str]) -> list[str]:
    """Problems: classes that are one folder where capitals don't count, as on Windows and macOS."""
    alike: dict[str, set[str]] = defaultdict(set)
    for cls in classes:
        alike[nfc(cls).casefold()].add(cls)
    return [
        f"classes {' and '.join(map(shown, sorted(names)))} differ only in capitals: one folder on Windows and macOS"
        for names in alike.values()
        if len(names) > 1
    ]
