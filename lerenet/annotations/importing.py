"""``lerenet data import`` of another tool's export: its regions become masks, the rest is as for folders.

An image that shows several classes is an entry of each, of one group: what is marked as another class is background
there. Pixels that an export says to ignore are kept as such in each of its masks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from lerenet.annotations.locating import Images
from lerenet.annotations.regions import AnnotatedImage
from lerenet.annotations.register import NEAR, READERS, detect, read
from lerenet.data.encoding import write_mask
from lerenet.data.importing.found import Found, Gathered
from lerenet.data.importing.grouping import named
from lerenet.data.importing.importer import Summary, import_dataset
from lerenet.data.importing.layouts import Rule, Source
from lerenet.data.listing import list_files, passed_over
from lerenet.data.names import safe_stem
from lerenet.data.reading import PLAIN, Reading
from lerenet.errors import DataError, refuse
from lerenet.files import shown

FILES = (".json", ".xml", ".yaml", ".yml")
RULE = Rule(images="{cls}/{id}", stem="{id}")
MISSING = "put the images beside the export, or in folders beside it, under their names"
TWICE = "leave the image out of one of them"
UNCHANGED = "nothing was changed"
CANONICAL = "Images"  # a folder with one, or with folders with one, is no export


@dataclass(frozen=True)
class Choice:
    """Which regions are imported.

    Args:
        kind: format; None: detected.
        only: classes; empty: all.
        joined: one class that all regions become; empty: each is of its own.
        reading: how images are read.
    """

    kind: str | None = None
    only: tuple[str, ...] = ()
    joined: str = ""
    reading: Reading = PLAIN


def import_any(
    path: Path,
    data: Path,
    kind: str | None = None,
    spec: Path | None = None,
    folds: Path | None = None,
    name: str = "",
    add: bool = False,
    reading: Reading = PLAIN,
    only: Sequence[str] = (),
    joined: str = "",
) -> Summary:
    """Import an export of an annotation tool, or else a folder or archive by its layout.

    Args:
        path: the export's file, its images in the same folder or below; or a folder or archive.
        kind: name of an annotation format (`lerenet.annotations.register.READERS`) or of a layout; None: detected.
        only: classes of an export to import.
        joined: class that all regions of an export become.
        data, spec, folds, name, add, reading: see `lerenet.data.importing.importer.import_dataset`.

    Raises:
        DataError: see `import_dataset`; a class in ``only`` that marks nothing;
            ``only`` or ``joined`` for what is no export.
        LerenetError: the disk is full. In every case ``data`` stays as it was.
    """
    by_layout = bool(spec) or (kind is not None and kind not in READERS)
    file = path if path.is_file() and path.suffix.lower() in FILES else None
    choice = Choice(None if by_layout else kind, tuple(only), joined, reading)

    def gather(folder: Path, masks: Path) -> Gathered | None:
        source = None if by_layout else _export(folder, file, choice.kind)
        if source is not None:
            return _gathered(*source, choice, masks)
        if file is not None or choice.only or choice.joined:
            formats = ", ".join(READERS)
            raise DataError(
                f"{shown(path)}: no export of an annotation tool ({formats})", "check path and --kind"
            )
        return None

    rest = None if kind in READERS else kind
    return import_dataset(path.parent if file else path, data, rest, spec, folds, name, add, reading, gather)


def _export(folder: Path, file: Path | None, kind: str | None) -> tuple[Path, Path, str] | None:
    """Folder with the images, export in it and its format; an archive may pack them in one folder."""
    inside = sorted(one for one in folder.iterdir() if not passed_over(one.name))
    if kind is None and any(one.name == CANONICAL or _holds(one, CANONICAL) for one in inside):
        return None
    if file is None and len(inside) == 1 and inside[0].is_dir() and inside[0].name not in NEAR:
        return _export(inside[0], None, kind)
    export = file or folder
    found = kind or detect(export)
    return (folder, export, found) if found else None


def _holds(folder: Path, name: str) -> bool:
    return folder.is_dir() and any(one.name == name for one in folder.iterdir())


def _gathered(folder: Path, export: Path, kind: str, choice: Choice, masks: Path) -> Gathered:
    if choice.reading.label or choice.reading.inverted or choice.reading.ignore:
        raise DataError(f"{shown(export)}: --label, --ignore and --inverted are for masks", "leave them out")
    problems: list[str] = []
    images = Images(list_files(folder, problems))
    remedies: dict[str, bool] = {}
    entries: dict[str, str] = {}  # file -> entry that marks it
    claims: dict[str, str] = {}  # file -> the name that means it
    classes: set[str] = set()
    pictures: list[Found] = []
    names: dict[Path, str] = {}
    for image in read(export, kind):
        classes.update(image.classes())
        paths = images.find(image.image)
        shown_as = _chosen(image, choice)
        first = claims.setdefault(paths[0], image.image) if len(paths) == 1 else image.image
        if first != image.image:
            problems.append(f"{image.source}: {first!r} and {image.image!r} may both mean {shown(paths[0])}")
            remedies[MISSING] = True
            continue
        reason = _reason(image, paths, shown_as, entries, choice)
        if reason:
            problems.append(f"{image.source}: {reason[0]}")
            remedies[reason[1]] = True
        elif shown_as:
            entries[paths[0]] = image.source
            group = paths[0] if len(shown_as) > 1 else ""
            for cls in shown_as:
                mask = masks / f"{len(names)}.png"
                write_mask(mask, image.marks(choice.only if choice.joined else [cls]))
                names[mask] = f"{image.source}: what it marks as {cls}"
                pictures.append(_found(folder, paths[0], mask, cls, group))
    problems += [
        f"class {name!r}: marks nothing in {shown(export)}" for name in choice.only if name not in classes
    ]
    refuse(problems, "\n  -> ".join([*remedies, UNCHANGED]))
    if not pictures:
        raise DataError(f"{shown(export)}: marks nothing", "check the export, or --kind")
    unused = [name for name in images.files if name not in entries]
    return Gathered(Source(name=kind, rules=(RULE,)), named(_apart(pictures)), unused, names, choice.reading)


def _chosen(image: AnnotatedImage, choice: Choice) -> list[str]:
    """The classes that an image is an entry of."""
    marked = dict.fromkeys(region.name for region in image.marked())
    wanted = [name for name in marked if not choice.only or name in choice.only]
    return [choice.joined] if choice.joined and wanted else wanted


def _reason(
    image: AnnotatedImage,
    paths: Sequence[str],
    classes: Sequence[str],
    entries: dict[str, str],
    choice: Choice,
) -> tuple[str, str] | None:
    """Why an image can't be used, and what to do."""
    if not classes:
        return None
    if len(paths) != 1:
        which = f"may be {' or '.join(map(shown, paths))}" if paths else "is missing"
        return f"its image {image.image!r} {which}", MISSING
    if paths[0] in entries:
        return f"{shown(paths[0])} is annotated twice, by {entries[paths[0]]}, too", TWICE
    return None


def _apart(pictures: Sequence[Found]) -> list[Found]:
    """Images whose names repeat are named by their whole paths."""
    counts = Counter((item.cls, item.stem.casefold()) for item in pictures)
    return [
        item if counts[item.cls, item.stem.casefold()] == 1 else _renamed(item, item.path.rpartition(".")[0])
        for item in pictures
    ]


def _renamed(item: Found, path: str) -> Found:
    text = path.replace("/", "_")
    return replace(item, text=text, stem=safe_stem(text))


def _found(folder: Path, name: str, mask: Path, cls: str, group: str) -> Found:
    stem = str(PurePosixPath(name).with_suffix("").name)
    return Found(
        RULE, folder / name, (mask,), "", cls, stem, safe_stem(stem), group, name, {"cls": cls, "id": stem}
    )
