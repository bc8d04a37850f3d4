"""What a call finds: one row a query, and the two tables that hold them."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

CSV, JSON, JOURNAL = "predictions.csv", "predictions.json", "predictions.jsonl"


@dataclass(frozen=True)
class Prediction:
    """One query's result; files are names inside the output folder.

    ``foreground``: share of the image that is marked, 0..1. ``confidence``: mean over the pixels of
    the probability of the class chosen, 0.5..1 (low by nature for ``matching``). ``milliseconds``:
    from the decoded picture to its mask. ``sha256``: of the mask's file, ``query_sha256``: of the query's.
    ``error``: why there is no mask; ``mask`` and ``overlay`` are empty then, and the numbers 0.
    """

    query: str
    mask: str
    overlay: str
    foreground: float
    confidence: float
    milliseconds: float
    sha256: str
    query_sha256: str
    error: str = ""


@dataclass(frozen=True)
class Predictions:
    """All results of a call, with what was used and what the reader should know.

    ``version`` (of the registry, else empty) and ``weights_sha256`` (empty for ``matching``) tell which model it
    was, ``support_sha256`` which examples (the image, then its masks): `lerenet lineage --mask` goes back from there.
    ``digest`` is that of all that decides the masks beside the queries: a call with the same one goes on where this
    one ended. ``table_sha256`` is that of predictions.csv, ``annotations`` the files in other tools' formats and
    ``earlier`` those of calls before, with their digests.
    """

    model: str
    version: str
    weights_sha256: str
    supports: list[str]
    support_sha256: list[tuple[str, ...]]
    warnings: list[str]
    predictions: list[Prediction]
    digest: str
    table_sha256: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    earlier: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def failed(self) -> list[Prediction]:
        """The rows without a mask."""
        return [row for row in self.predictions if row.error]


def as_csv(rows: list[Prediction]) -> bytes:
    """The rows as a CSV file in UTF-8."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(Prediction.__dataclass_fields__))
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def row_of(value: Any) -> Prediction | None:
    """The row in ``value``, as JSON holds it; None for that of an older lerenet or no row at all."""
    if isinstance(value, dict) and set(value) == set(Prediction.__dataclass_fields__):
        return Prediction(**value)
    return None


def sha256(content: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()
