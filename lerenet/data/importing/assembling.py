"""What a new data folder holds beside the images that come in: classes that stay, folds, name and licence."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lerenet.data.dataset import DATASET, SOURCES, Folds, Row, read_dataset, read_sources
from lerenet.data.importing.assign_folds import assign_folds, given_folds
from lerenet.data.importing.layouts import Source
from lerenet.data.listing import passed_over, readable
from lerenet.data.names import differ_in_case
from lerenet.errors import refuse


def keep(data: Path, target: Path, replaced: set[str]) -> list[Row]:
    """Copy what is in ``data``, but for its tables and the classes ``replaced``; return its rows of sources.csv."""
    for path in sorted(data.iterdir()):
        if path.is_dir() and path.name not in replaced:
            shutil.copytree(path, target / path.name)
        elif not path.is_dir() and path.name not in (DATASET, SOURCES):
            shutil.copy2(path, target / path.name, follow_symlinks=False)
    return [row for row in read_sources(data).values() if row["file"].split("/")[0] not in replaced]


def count(data: Path, folder: str) -> Counter[str]:
    """Images of each class in its ``folder`` (Images or Nd)."""
    paths = (path for path in data.glob(f"*/{folder}/*") if readable(path.name))
    return Counter(path.parts[-3] for path in paths if not any(map(passed_over, path.parts[-3:])))


def deal(classes: set[str], asked: Path | None, before: Sequence[Path]) -> tuple[Folds, list[str]]:
    """Every class to a fold: as the file ``asked``, else as in the folders ``before``, else by rule.

    Returns:
        The folds, and the classes that were dealt by rule.

    Raises:
        DataError: folds that can't be, or classes that differ only in capitals.
    """
    refuse(differ_in_case(classes), "rename one of them; nothing was changed")
    return assign_folds(classes, given_folds(asked, before, classes))


def about(source: Source, before: Iterable[Path], name: str) -> dict[str, str]:
    """Name and licence: ``name``, else as in the folders ``before``, the first one first, else of the layout."""
    facts = {"name": source.name, "licence": source.licence or "as the source says"}
    for dataset in filter(None, map(read_dataset, reversed(list(before)))):
        facts |= dataset.about()
    return facts | ({"name": name} if name else {})
