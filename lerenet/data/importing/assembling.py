"""What a new data folder holds beside the images that come in: classes that stay, folds, name and licence."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from lerenet.data.dataset import DATASET, SOURCES, Folds, Row, read_dataset, read_sources
from lerenet.data.importing.assign_folds import assign_folds, given_folds, torn
from lerenet.data.importing.found import Found
from lerenet.data.importing.layouts import Source
from lerenet.data.listing import passed_over, readable
from lerenet.data.names import differ_in_case
from lerenet.errors import refuse

ONE_FOLD = (
    "put them in one fold (--folds), choose classes with --class, or join them with --as; nothing was changed"
)


def keep(
    data: Path, target: Path, replaced: set[str], copy: Callable[[str, str], object] = shutil.copy2
) -> list[Row]:
    """Copy what is in ``data``, but for its tables and the classes ``replaced``; return its rows of sources.csv."""
    for path in sorted(data.iterdir()):
        if path.is_dir() and path.name not in replaced:
            shutil.copytree(path, target / path.name, copy_function=copy)
        elif not path.is_dir() and path.name not in (DATASET, SOURCES):
            shutil.copy2(path, target / path.name, follow_symlinks=False)
    return [row for row in read_sources(data).values() if row["file"].split("/")[0] not in replaced]


def count(data: Path, folder: str) -> Counter[str]:
    """Images of each class in its ``folder`` (Images or Nd)."""
    paths = (path for path in data.glob(f"*/{folder}/*") if readable(path.name))
    return Counter(path.parts[-3] for path in paths if not any(map(passed_over, path.parts[-3:])))


def deal(
    classes: set[str], asked: Path | None, before: Sequence[Path], together: Collection[frozenset[str]] = ()
) -> tuple[Folds, list[str]]:
    """Every class to a fold: as the file ``asked``, else as in the folders ``before``, else by rule.

    Returns:
        The folds, and the classes that were dealt by rule.

    Raises:
        DataError: folds that can't be, classes that differ only in capitals, or some of different folds that have
            images in common (``together``): what is tested would have been seen in training.
    """
    refuse(differ_in_case(classes), "rename one of them; nothing was changed")
    folds, dealt = assign_folds(classes, given_folds(asked, before, classes), together)
    refuse(torn(folds, together), ONE_FOLD)
    return folds, dealt


def sharing(pictures: Iterable[Found]) -> set[frozenset[str]]:
    """The classes of each image that is an entry of several."""
    classes: dict[str, set[str]] = defaultdict(set)
    for item in pictures:
        classes[item.path].add(item.cls)
    return {frozenset(names) for names in classes.values() if len(names) > 1}


def about(source: Source, before: Iterable[Path], name: str) -> dict[str, str]:
    """Name and licence: ``name``, else as in the folders ``before``, the first one first, else of the layout."""
    facts = {"name": source.name, "licence": source.licence or "as the source says"}
    for dataset in filter(None, map(read_dataset, reversed(list(before)))):
        facts |= dataset.about()
    return facts | ({"name": name} if name else {})
