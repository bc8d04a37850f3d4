"""Bring images from outside into the data folder: all of them, or nothing when one can't be used.

The new folder is built beside the old one and takes its place only when it is whole. JPEG images and
0/255 PNG masks are copied byte for byte; other images become JPEG of quality 95, other masks 0/255 PNG.
"""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lerenet.data.archive import extract, is_archive
from lerenet.data.catalog import read_sources
from lerenet.data.finding import Found, find, guess_source, list_files, orphans, twice
from lerenet.data.folding import Folds, assign_folds, read_folds
from lerenet.data.images import (
    SUFFIXES,
    image_facts,
    measure_mask,
    read_image,
    read_mask,
    refuse,
    resize_mask,
    turn_mask,
    write_jpeg,
    write_mask,
)
from lerenet.data.sources import CLASS_NAME, Source, find_source, load_spec
from lerenet.errors import DataError
from lerenet.files import atomic_dir, scratch_dir

COLUMNS = ["cls", "kind", "file", "group_id", "source", "source_path", "provenance"]
MOST_FOREGROUND = 0.95  # more, and the mask is likely inverted
REMEDY = "mend or remove these files in the source, then import again; nothing was changed"
Row = dict[str, str]


@dataclass
class Summary:
    """What an import did: images of each class, folds, and the classes that were dealt to a fold by rule."""

    source: str
    defect: Counter[str] = field(default_factory=Counter)
    clean: Counter[str] = field(default_factory=Counter)
    folds: Folds = field(default_factory=list)
    dealt: list[str] = field(default_factory=list)


def import_dataset(
    path: Path,
    data: Path,
    kind: str | None = None,
    spec: Path | None = None,
    folds: Path | None = None,
    name: str = "",
    add: bool = False,
) -> Summary:
    """Import a folder or archive into ``data``.

    Args:
        path: folder, or zip or tar archive.
        data: the data folder; replaced whole, or extended with ``add``.
        kind: name of a known layout (`lerenet.data.sources.REGISTRY`); None: guessed.
        spec: YAML file that describes a layout of one's own.
        folds: YAML file with three lists of class names.
        name: of the data set; empty: what it is called already.
        add: keep what is there and add (or replace) classes.

    Raises:
        DataError: nothing usable, or files that can't be used; the message names them.
        LerenetError: the disk is full. In every case ``data`` stays as it was.
    """
    if not path.exists():
        raise DataError(f"{path}: not found", "give a folder, or a zip or tar archive")
    with scratch_dir(data.with_name(f"{data.name}-archive")) as scratch:
        folder = path
        if path.is_file():
            if not is_archive(path):
                raise DataError(f"{path}: neither a folder nor a zip or tar archive", "unpack it by hand")
            folder = scratch
            extract(path, folder)
        folder = _root(folder)
        files = list_files(folder)
        source = load_spec(spec) if spec else find_source(kind) if kind else guess_source(files, path)
        found = find(folder, files, source)
        _check(folder, files, found, source)
        return _build(folder, found, source, data, folds, name, add)


def _root(folder: Path) -> Path:
    """``folder``, or the one below it that holds the tables (archives often pack a top folder)."""
    tables = [path.parent for name in ("dataset.yaml", "sources.csv") for path in folder.glob(f"*/{name}")]
    return tables[0] if len(set(tables)) == 1 and not (folder / "sources.csv").exists() else folder


def _check(folder: Path, files: Sequence[str], found: Sequence[Found], source: Source) -> None:
    base = folder.resolve().parent if (folder / "Images").is_dir() else folder
    problems = [
        f"{item.image}: its mask {item.mask} is missing"
        for item in found
        if item.mask and not item.mask.exists()
    ]
    problems += twice(found)
    problems += orphans(files, found, base) if source.name == "canonical" else []
    names = sorted({item.cls for item in found if not CLASS_NAME.match(item.cls)})
    problems += [f"class name {name!r}: letters, digits and _ only, 64 at most" for name in names]
    refuse(problems, REMEDY)


def _about(folder: Path) -> dict[str, str]:
    """Name and licence in a folder's dataset.yaml, as far as it has them."""
    path = folder / "dataset.yaml"
    known = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}
    return {key: str(known[key]) for key in ("name", "licence") if known.get(key)}


def _build(
    folder: Path,
    found: Sequence[Found],
    source: Source,
    data: Path,
    folds: Path | None,
    name: str,
    add: bool,
) -> Summary:
    known = read_sources(folder)
    summary, problems = Summary(source.name), []
    with atomic_dir(data) as target:
        rows = _keep(data, target, {item.cls for item in found}) if add and data.exists() else []
        for item in found:
            try:
                rows.append(_place(item, target, known))
            except DataError as error:
                problems.append(error.what)
        refuse(problems, REMEDY)
        summary.defect, summary.clean = _count(target, "Images"), _count(target, "Nd")
        classes = {*summary.defect, *summary.clean}
        summary.folds, summary.dealt = assign_folds(classes, _given_folds(folder, data, folds, add, classes))
        about = {"name": source.name, "licence": source.licence or "as the source says", **_about(folder)}
        about |= _about(data) if add else {}
        about |= {"name": name} if name else {}
        _write_tables(target, rows, summary.folds, about)
    return summary


def _keep(data: Path, target: Path, replaced: set[str]) -> list[Row]:
    """Copy the classes of ``data`` that are not imported again; return their rows of sources.csv."""
    for cls in sorted(path for path in data.iterdir() if path.is_dir() and path.name not in replaced):
        shutil.copytree(cls, target / cls.name)
    return [row for file, row in read_sources(data).items() if file.split("/")[0] not in replaced]


def _count(data: Path, folder: str) -> Counter[str]:
    """Images of each class in its ``folder`` (Images or Nd)."""
    images = (path for path in data.glob(f"[!.]*/{folder}/[!.]*") if path.suffix.lower() in SUFFIXES)
    return Counter(path.parts[-3] for path in images)


def _place(item: Found, target: Path, known: dict[str, Row]) -> Row:
    """Write one image and its mask into the canonical layout; return its row of sources.csv."""
    mask_path, facts = item.mask, image_facts(item.image)
    if mask_path is not None and item.rule.empty_is_clean and measure_mask(mask_path).foreground == 0:
        mask_path = None
    folder = target / item.cls / ("Images" if mask_path else "Nd")
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{item.stem}.jpg"
    if facts.format == "JPEG" and facts.mode in ("L", "RGB") and facts.orientation == 1:
        read_image(item.image)  # whole and readable, or refused
        shutil.copyfile(item.image, out)
    else:
        write_jpeg(out, read_image(item.image))
    if mask_path is not None:
        _place_mask(item, mask_path, (facts.width, facts.height), facts.orientation, target)
    before = known.get(item.path, {})
    return {
        "cls": item.cls,
        "kind": "defect" if mask_path else "clean",
        "file": out.relative_to(target).as_posix(),
        "group_id": before.get("group_id", item.group),
        "source": before.get("source", ""),
        "source_path": before.get("source_path", item.path),
        "provenance": before.get("provenance", "imported"),
    }


def _place_mask(item: Found, path: Path, size: tuple[int, int], orientation: int, target: Path) -> None:
    facts, width, height = measure_mask(path), size[0], size[1]
    mask = read_mask(path)
    if orientation != 1 and mask.shape != (height, width):
        mask = turn_mask(mask, orientation)
    mask = ~mask if item.rule.inverted else mask
    if mask.shape != (height, width):
        if not item.rule.resize_mask:
            raise DataError(
                f"{path}: {mask.shape[1]} x {mask.shape[0]} pixels, its image {item.image} {width} x {height}"
            )
        mask = resize_mask(mask, (height, width))
    if not mask.any():
        raise DataError(f"{path}: empty; a clean image goes to Nd/, without a mask")
    if mask.mean() > MOST_FOREGROUND:
        raise DataError(
            f"{path}: {mask.mean():.0%} of it is defect; is black the defect? (inverted: true in --spec)"
        )
    out = target / item.cls / "GT" / f"{item.stem}.png"
    out.parent.mkdir(parents=True, exist_ok=True)
    if (
        facts.canonical
        and not item.rule.inverted
        and (facts.width, facts.height) == size
        and orientation == 1
    ):
        shutil.copyfile(path, out)
    else:
        write_mask(out, mask)


def _given_folds(folder: Path, data: Path, asked: Path | None, add: bool, classes: set[str]) -> Folds | None:
    """The folds asked for; else those of the data that are added to, then those of the source."""
    if asked is not None:
        folds = read_folds(asked)
        unknown = sorted({cls for fold in folds for cls in fold} - classes)
        if unknown:
            raise DataError(
                f"{asked}: no class {unknown[0]!r} among {', '.join(sorted(classes))}", "correct the name"
            )
        return folds
    tables = [path / "dataset.yaml" for path in (data, folder) if path == folder or add]
    merged: Folds = [[], [], []]
    for table in (read_folds(path) for path in tables if path.exists()):
        seen = {cls for fold in merged for cls in fold}
        for fold, names in zip(merged, table, strict=True):
            fold += [cls for cls in names if cls not in seen]
    return merged


def _write_tables(target: Path, rows: list[Row], folds: Folds, about: dict[str, str]) -> None:
    with (target / "sources.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["file"]))
    text = yaml.safe_dump({**about, "folds": folds}, sort_keys=False)
    (target / "dataset.yaml").write_text(text, encoding="utf-8")
