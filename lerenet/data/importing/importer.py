"""Bring images from outside into the data folder: all of them, or nothing when one can't be used.

The new folder is built beside the old one and takes its place only when it is whole. JPEG images and
0/255 PNG masks are copied byte for byte; other images become JPEG of quality 95, other masks 0/255 PNG.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lerenet.data.dataset import Folds, Row, read_sources, write_tables
from lerenet.data.importing.archive import class_of, extract, is_archive
from lerenet.data.importing.assembling import about, count, deal, keep, sharing
from lerenet.data.importing.checking import leftovers, problems_of, table_problems
from lerenet.data.importing.discover import find, guess_source
from lerenet.data.importing.found import Found, Gathered
from lerenet.data.importing.known_layouts import CANONICAL, find_source
from lerenet.data.importing.layouts import Source, load_spec
from lerenet.data.importing.placing import place
from lerenet.data.importing.replacing import changing, check_replaceable, check_source
from lerenet.data.importing.tree import MEND, Tree, look
from lerenet.data.reading import PLAIN, Reading
from lerenet.errors import DataError, refuse
from lerenet.files import alone, atomic_dir, recover_dir, scratch_dir, shown

KEEP = "keep the classes that are there with --add; or move the folder away, or give another with --data"
REPLACED = "move these files away, or give the class that is imported another name"

Gather = Callable[[Path, Path], Gathered | None]


@dataclass
class Summary:
    """What an import did.

    Args:
        source: name of the layout.
        defect: defect images of each class.
        clean: clean images of each class.
        folds: of the classes.
        dealt: classes that were dealt to a fold by rule.
        unused: image files of the source that no rule names; they were left out.
    """

    source: str
    defect: Counter[str] = field(default_factory=Counter)
    clean: Counter[str] = field(default_factory=Counter)
    folds: Folds = field(default_factory=list)
    dealt: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def import_dataset(
    path: Path,
    data: Path,
    kind: str | None = None,
    spec: Path | None = None,
    folds: Path | None = None,
    name: str = "",
    add: bool = False,
    reading: Reading = PLAIN,
    gather: Gather | None = None,
) -> Summary:
    """Import a folder or archive into ``data``.

    Args:
        path: folder, or zip or tar archive.
        data: the data folder, or a link to it; replaced whole, or extended with ``add``.
        kind: name of a known layout (`lerenet.data.importing.known_layouts.REGISTRY`); None: guessed.
        spec: YAML file that describes a layout of one's own.
        folds: YAML file with three lists of class names.
        name: of the data set; empty: what it is called already.
        add: keep what is there and add (or replace) classes.
        reading: how files are read; what it says goes before what the layout says.
        gather: finds the images of a folder in another way than by a layout, with a second folder for masks that it
            makes; None: nothing for it there, and the layout is followed.

    Raises:
        DataError: nothing usable, files that can't be used, or files in ``data`` that no import wrote and that would
            be lost; the message names them.
        LerenetError: the disk is full. In every case ``data`` stays as it was.
    """
    if not path.exists():
        raise DataError(f"{shown(path)}: not found", "give a folder, or a zip or tar archive")
    data = data.resolve() if data.is_symlink() else data
    with alone(changing(data)):
        return _imported(path, data, kind, spec, folds, name, add, reading, gather)


def _imported(
    path: Path,
    data: Path,
    kind: str | None,
    spec: Path | None,
    folds: Path | None,
    name: str,
    add: bool,
    reading: Reading,
    gather: Gather | None,
) -> Summary:
    recover_dir(data)  # what an import that was killed between its last two steps left
    check_source(path, data)
    if not add:
        check_replaceable(data, KEEP)
    with (
        _unpacked(path, data) as (folder, called),
        scratch_dir(data.with_name(f"{data.name}-masks")) as masks,
    ):
        tree = look(folder, called)
        table = read_sources(tree.folder)
        gathered = (gather and gather(folder, masks)) or _by_rules(tree, path, kind, spec)
        pictures, source = gathered.pictures, gathered.source
        _check(tree, pictures, gathered.unused, source, table)
        if add:
            check_replaceable(data, REPLACED, {item.cls for item in pictures})
        with atomic_dir(data) as target:
            rows = keep(data, target, {item.cls for item in pictures}) if add and data.exists() else []
            rows += _placed(pictures, target, table, gathered.reading or reading, gathered.names)
            summary = Summary(source.name, count(target, "Images"), count(target, "Nd"))
            summary.unused = [shown(name) for name in gathered.unused]
            before = [data, tree.folder] if add else [tree.folder]  # the first goes before the others
            classes = {*summary.defect, *summary.clean}
            summary.folds, summary.dealt = deal(classes, folds, before, sharing(pictures))
            write_tables(
                target, sorted(rows, key=lambda row: row["file"]), summary.folds, about(source, before, name)
            )
    return summary


def _by_rules(tree: Tree, path: Path, kind: str | None, spec: Path | None) -> Gathered:
    source = load_spec(spec) if spec else find_source(kind) if kind else guess_source(tree, path)
    return Gathered(source, *find(tree, source))


@contextmanager
def _unpacked(path: Path, data: Path) -> Iterator[tuple[Path, str]]:
    """The source's folder, and its name where the folder has none of its own; errors name the archive."""
    with scratch_dir(data.with_name(f"{data.name}-archive")) as scratch:
        if path.is_dir():
            yield path, ""
            return
        if not is_archive(path):
            raise DataError(f"{shown(path)}: neither a folder nor a zip or tar archive", "unpack it by hand")
        try:
            extract(path, scratch)
            yield scratch, class_of(path)
        except DataError as error:
            raise DataError(error.what.replace(shown(scratch), shown(path)), error.remedy) from error


def _check(
    tree: Tree, pictures: Sequence[Found], unused: Sequence[str], source: Source, table: Mapping[str, Row]
) -> None:
    problems = problems_of(pictures)
    if source is CANONICAL:
        problems += [*leftovers(tree, pictures, unused), *table_problems(tree, pictures, table)]
    refuse(problems, MEND)


def _placed(
    pictures: Sequence[Found],
    target: Path,
    table: Mapping[str, Row],
    reading: Reading,
    names: Mapping[Path, str],
) -> Iterator[Row]:
    """Write every image and mask; their rows of sources.csv."""
    problems, remedies = [], {}
    for item in pictures:
        try:
            yield place(item, target, table, reading)
        except DataError as error:
            problems.append(_named(error.what, item, names))
            remedies[error.remedy] = True
    refuse(problems, "\n  -> ".join([*filter(None, remedies), MEND]))


def _named(what: str, item: Found, names: Mapping[Path, str]) -> str:
    """A message that calls made masks by what they were made from."""
    for mask in item.masks:
        what = what.replace(shown(mask), names.get(mask, shown(mask)))
    return what
