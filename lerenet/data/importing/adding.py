"""One image into ``data/``: a marked defect, a corrected mask, or a good part, with its group, who gave it and when."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lerenet.data.dataset import DATASET, Dataset, Row, read_dataset, read_sources, write_tables
from lerenet.data.encoding import encode_jpeg, write_mask
from lerenet.data.images import MIN_SIDE, Pixels, image_facts, read_image
from lerenet.data.importing.already import DIGITS, files_of, mask_file, same_photo
from lerenet.data.importing.assembling import keep
from lerenet.data.importing.placing import place_image, stays
from lerenet.data.importing.replacing import changing
from lerenet.data.masks import read_marks
from lerenet.data.names import nfc, safe_stem
from lerenet.data.pairs import read_marked
from lerenet.data.reading import PLAIN, Reading
from lerenet.data.scaling import IGNORED, Marks
from lerenet.errors import DataError
from lerenet.files import alone, atomic_dir, recover_dir, sha256_file, shown
from lerenet.params import ValidationSettings


@dataclass(frozen=True)
class Given:
    """What a person says of a photo.

    Attributes:
        cls: the class.
        image: the photo's file.
        masks: of its defect, which are joined; none: a good part.
        group: of the part that it shows; empty: of its own.
        by: who says so.
        reading: how the files are read.
        keep_ignored: pixels that the photo's mask in the data ignores stay so where nothing is marked on them.
    """

    cls: str
    image: Path
    masks: Sequence[Path] = ()
    group: str = ""
    by: str = "unknown"
    reading: Reading = PLAIN
    keep_ignored: bool = False


def add_image(data: Path, given: Given, limits: ValidationSettings | None = None) -> str:
    """Add a photo to its class, whole or not at all; one that is there already takes its own place.

    Args:
        limits: what a mask must satisfy; the defaults where not given.

    Returns:
        Its name in the data folder.

    Raises:
        DataError: no such class, or a file or mask that can't be used; nothing was changed then.
    """
    data = data.resolve() if data.is_symlink() else data
    pixels, marks = _read(given, limits or ValidationSettings())
    digest = sha256_file(given.image)
    facts = image_facts(given.image)
    kept = None if stays(facts) else encode_jpeg(pixels)
    with alone(changing(data)):
        recover_dir(data)  # what a kill left between the last two steps
        dataset, table = _require_class(data, given.cls)
        same = same_photo(data, given.image, digest, kept)
        stem = same.get(given.cls) or f"{safe_stem(nfc(given.image.stem))[:80]}-{digest[:DIGITS]}"
        if marks is not None and given.keep_ignored:
            marks = _with_ignored(marks, mask_file(data, given.cls, stem))
        folder = "Nd" if marks is None else "Images"
        file = f"{given.cls}/{folder}/{stem}.jpg"
        said = f"{'corrected' if files_of(data, given.cls, stem) else 'added'} by {given.by}, {_now()}, sha256 {digest}"
        before = next(
            (row for key, row in table.items() if Path(key).stem == stem and key.startswith(f"{given.cls}/")),
            {},
        )
        row = {
            "cls": given.cls, "kind": "clean" if marks is None else "defect", "file": file,
            "group_id": _group(given, before, stem, same, dataset, table), "source": before.get("source", ""),
            "source_path": before.get("source_path", "") or given.image.name, "provenance": said,
        }  # fmt: skip
        with atomic_dir(data) as target:
            keep(data, target, set(), _linked)
            for path in files_of(target, given.cls, stem):
                path.unlink()  # a second name of a file: never written through
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            place_image(target / file, given.image, kept)
            if marks is not None:
                write_mask(mask_file(target, given.cls, stem), marks)
            others = [one for key, one in table.items() if key != before.get("file", file)]
            rows = sorted([*others, row], key=lambda one: one["file"])
            write_tables(target, rows, dataset.folds, dataset.about())
    return file


def _read(given: Given, limits: ValidationSettings) -> tuple[Pixels, Marks | None]:
    if not given.masks:
        pixels = read_image(given.image, given.reading.bits)
        if min(pixels.shape[:2]) < MIN_SIDE:
            raise DataError(f"{shown(given.image)}: under {MIN_SIDE} pixels on a side", "give a larger photo")
        return pixels, None
    pixels, marks = read_marked(given.image, list(given.masks), given.reading)
    share = float((marks > 0).mean())
    if not limits.min_foreground <= share <= limits.max_foreground:
        raise DataError(
            f"{shown(given.masks[0])}: marks {share:.4%} of the photo",
            f"between {limits.min_foreground:.2%} and {limits.max_foreground:.0%} may be; or say that it is good",
        )
    return pixels, marks


def _require_class(data: Path, cls: str) -> tuple[Dataset, dict[str, Row]]:
    """The tables of a data folder that has the class."""
    dataset = read_dataset(data)
    if dataset is None:
        raise DataError(
            f"{shown(data / DATASET)}: not found", "import data first: `lerenet data import PATH`"
        )
    known = sorted(name for fold in dataset.folds for name in fold)
    if cls not in known:
        raise DataError(
            f"{cls}: no class of {shown(data)}; there are {', '.join(known)}",
            "draft a new class with `lerenet enrol`; with six images and more, import it: `lerenet data import --add`",
        )
    return dataset, read_sources(data)


def _with_ignored(marks: Marks, before: Path) -> Marks:
    """The marks, which ignore what the mask before ignores and they don't mark."""
    if not before.exists():
        return marks
    return np.where((read_marks(before) == IGNORED) & (marks == 0), np.int8(IGNORED), marks)


def _group(
    given: Given, before: Row, stem: str, same: dict[str, str], dataset: Dataset, table: dict[str, Row]
) -> str:
    """The group of the photo's part; that of the same photo in another class, whose fold must be the same."""
    fold_of = {cls: number for number, fold in enumerate(dataset.folds) for cls in fold}
    for cls, other in same.items():
        if cls == given.cls:
            continue
        if fold_of.get(cls) != fold_of[given.cls]:
            raise DataError(
                f"{given.image.name}: is in class {cls} already, which is in another fold than {given.cls}",
                "what is tested would be seen in training; take it out there first",
            )
        row = next(
            (row for key, row in table.items() if key.startswith(f"{cls}/") and Path(key).stem == other), {}
        )
        group = row.get("group_id", "") or other
        if given.group not in ("", group):
            raise DataError(
                f"{given.image.name}: is in class {cls} as of part {group}", "give the same part here"
            )
        return group
    return given.group or before.get("group_id", "") or stem


def _linked(source: str, target: str) -> str:
    """A file under a second name, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
