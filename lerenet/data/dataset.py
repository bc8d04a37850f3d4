"""The only reader and writer of a data folder's two tables: dataset.yaml (name, licence, folds) and sources.csv."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lerenet.data.names import nfc
from lerenet.errors import DataError, refuse
from lerenet.files import shown
from lerenet.yaml_file import read_yaml

DATASET, SOURCES = "dataset.yaml", "sources.csv"
COLUMNS = ("cls", "kind", "file", "group_id", "source", "source_path", "provenance")
KINDS = {"Images": "defect", "Nd": "clean"}  # folder of a class -> kind of its images
Row = dict[str, str]
Folds = list[list[str]]  # three lists of class names
THREE_LISTS = "write three lists of class names, e.g. [[A, B], [C, D], [E, F]]"


@dataclass(frozen=True)
class Dataset:
    """What dataset.yaml says; name and licence are empty where it does not say them."""

    name: str
    licence: str
    folds: Folds

    def about(self) -> dict[str, str]:
        """Name and licence, as far as they are known."""
        return {key: value for key in ("name", "licence") if (value := str(getattr(self, key)))}


def read_dataset(folder: Path) -> Dataset | None:
    """dataset.yaml of ``folder``; None when there is none.

    Raises:
        DataError: no YAML, or folds that are not three lists of names, each name once.
    """
    path = folder / DATASET
    if not path.exists():
        return None
    raw = read_yaml(path)
    entries = raw if isinstance(raw, dict) else {}
    name, licence = (str(entries.get(key) or "") for key in ("name", "licence"))
    return Dataset(name, licence, _folds(raw, path))


def read_about(folder: Path) -> dict[str, str]:
    """Name and licence that dataset.yaml of ``folder`` gives, as far as it can be read."""
    try:
        raw = read_yaml(folder / DATASET)
    except (OSError, DataError):
        return {}
    return {key: str(raw[key]) for key in ("name", "licence") if isinstance(raw, dict) and raw.get(key)}


def read_folds(path: Path) -> Folds:
    """Three lists of class names from a YAML file, bare or under the key ``folds`` (as in dataset.yaml).

    Raises:
        DataError: missing, no YAML, not three lists of names, or a class twice.
    """
    try:
        return _folds(read_yaml(path), path)
    except FileNotFoundError as error:
        raise DataError(f"{shown(path)}: not found", THREE_LISTS) from error


def _folds(raw: Any, path: Path) -> Folds:
    folds = raw.get("folds") if isinstance(raw, dict) else raw
    if not isinstance(folds, list) or len(folds) != 3 or not all(isinstance(names, list) for names in folds):
        raise DataError(f"{shown(path)}: folds are not three lists", THREE_LISTS)
    at: dict[str, int] = {}
    for number, names in enumerate(folds):
        for name in names:
            if not isinstance(name, str):
                raise DataError(
                    f"{shown(path)}: fold {number}: {name!r} is no text", "put the name in quotes"
                )
            if name in at:
                raise DataError(
                    f"{shown(path)}: {name!r} is listed twice, in folds {at[name]} and {number}",
                    "name each class in one fold, once",
                )
            at[name] = number
    return folds


def read_sources(folder: Path) -> dict[str, Row]:
    """The rows of ``folder``/sources.csv by their ``file``, in NFC; none when there is no such table.

    Raises:
        DataError: not UTF-8 CSV; without the columns ``file`` and ``group_id``; rows that name no file, one that
            another row names, or a class or kind that is not that of the file's path.
    """
    path = folder / SOURCES
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{shown(path)}: not a UTF-8 CSV table: {error}", "save it as UTF-8 CSV") from error
    except OSError as error:
        raise DataError(
            f"{shown(path)}: can't be read: {error.strerror}", "give a UTF-8 CSV table"
        ) from error
    if rows and not {"file", "group_id"} <= set(reader.fieldnames or ()):
        raise DataError(f"{shown(path)}: lacks the columns file and group_id", "add them (docs/data.md)")
    return _by_file(path, [(line, row) for line, row in rows if any(row.values())])


def _by_file(path: Path, rows: Sequence[tuple[int, dict[Any, Any]]]) -> dict[str, Row]:
    problems: list[str] = []
    by_file: dict[str, Row] = {}
    lines: dict[str, int] = {}
    for line, raw in rows:
        row = {key: value or "" for key, value in raw.items() if key}
        key = nfc(row["file"])
        reason = "more cells than the header has columns" if None in raw else _contradiction(row)
        if reason:
            problems.append(f"{shown(path)}: line {line}: {reason}")
        elif key in by_file:
            one, other = by_file[key]["group_id"], row["group_id"]
            problems.append(
                f"{shown(path)}: {key} stands in lines {lines[key]} and {line}, with groups {one!r} and {other!r}"
            )
        else:
            by_file[key], lines[key] = row, line
    refuse(problems, f"mend {SOURCES}: one row an image, with the group of its part")
    return by_file


def _contradiction(row: Row) -> str:
    """What a row says against its own path, or empty."""
    if not row["file"]:
        return "names no file"
    parts = row["file"].split("/")
    if len(parts) != 3 or parts[1] not in KINDS:
        return ""
    for column, value in (("cls", parts[0]), ("kind", KINDS[parts[1]])):
        if nfc(row.get(column, "")) not in ("", nfc(value)):
            return f"{column} is {row[column]!r}, but the file is {row['file']} ({value})"
    return ""


def write_tables(folder: Path, rows: Sequence[Row], folds: Folds, about: dict[str, str]) -> None:
    """Write both tables: ``rows`` as they come, then name and licence (``about``) and the ``folds``."""
    with (folder / SOURCES).open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    text = yaml.safe_dump({**about, "folds": folds}, sort_keys=False)
    (folder / DATASET).write_text(text, encoding="utf-8")
