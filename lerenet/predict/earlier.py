"""What earlier calls left in a folder: their files, which alone may be overwritten, and their rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lerenet.predict.results import CSV, JOURNAL, JSON, Prediction, row_of

ANY = ""  # stands for a digest where whatever the file holds may be overwritten
HEAD = b'{"by": "lerenet predict"'  # a journal begins so


@dataclass
class Earlier:
    """Files and rows of the calls that wrote to a folder.

    Attributes:
        files: Name of a file -> the SHA-256 that it was written with, in each call.
        rows: Digest of a call -> the path of a query, as the tables show it -> its row.
    """

    files: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    rows: dict[str, dict[str, Prediction]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    def read(cls, folder: Path) -> Earlier:
        """What predictions.json and the journal of an interrupted call say; nothing where neither is ours."""
        earlier = cls()
        for value in _table(folder / JSON):
            earlier._add_table(value)
        earlier._add_journal(folder / JOURNAL)
        return earlier

    def _add_table(self, table: dict[str, Any]) -> None:
        self.files[JSON] = {ANY}
        self.files[CSV].add(str(table.get("table_sha256", ANY)))
        for name, digest in dict(table.get("annotations", {})).items():
            self.files[name].add(str(digest))
        for name, digests in dict(table.get("earlier", {})).items():
            self.files[name].update(map(str, digests))
        for value in table["predictions"]:
            self.add_row(str(table.get("digest", "")), value)

    def _add_journal(self, path: Path) -> None:
        digest = ""
        for value in _lines(path):
            self.files[JOURNAL] = {ANY}
            digest = str(value.get("digest", digest))
            if "file" in value:
                self.files[str(value["file"])].add(str(value["sha256"]))
            if "row" in value:
                self.add_row(digest, value["row"])

    def add_row(self, digest: str, value: Any) -> None:
        """Take in a row, as JSON holds it, of a call with this digest."""
        if not isinstance(value, dict) or not value.get("mask"):
            return
        self.files[str(value["mask"])].add(str(value.get("sha256", ANY)))
        self.files[str(value.get("overlay", ""))].add(ANY)
        row = row_of(value)
        if row is not None:
            self.rows[digest][row.query] = row


def _table(path: Path) -> Iterator[dict[str, Any]]:
    """predictions.json, if it is one of ours."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(table, dict) and isinstance(table.get("predictions"), list) and "supports" in table:
        yield table


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The journal's lines, if it is one of ours; what a kill has torn is left out."""
    try:
        content = path.read_bytes()
    except OSError:
        return
    if content[: len(HEAD)] != HEAD[: len(content)]:
        return
    yield {}
    for line in content.splitlines():
        with suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                yield value
