"""The catalogue: one row an image, with its mask, class, group, size, digests and perceptual hash."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from scipy.fft import dctn

from lerenet.data.images import SUFFIXES, Pixels, measure_mask, read_image, refuse
from lerenet.errors import DataError
from lerenet.files import atomic_path, sha256_file
from lerenet.progress import progress

COLUMNS = (
    "image",
    "mask",
    "cls",
    "fold",
    "kind",
    "group",
    "width",
    "height",
    "mask_width",
    "mask_height",
    "mask_binary",
    "foreground",
    "sha256",
    "mask_sha256",
    "phash",
)
FOLDERS = ("Images", "GT", "Nd")
IGNORED = ("Thumbs.db", "desktop.ini")
WORKERS = 2
NO_DATA = "make the sample with `lerenet data sample`, or bring your own: `lerenet data import PATH`"
MEND = "mend or delete the files named, or import the data again with `lerenet data import PATH`"


@dataclass(frozen=True)
class Entry:
    """An image that waits to be measured; ``mask`` is None for a clean one."""

    cls: str
    kind: str
    image: Path
    mask: Path | None


def perceptual_hash(image: Pixels) -> str:
    """64-bit DCT hash of (H, W, 3), as 16 hex characters; near images differ in few bits.

    The 8 x 8 lowest frequencies of the grey 32 x 32 picture, each against their median.
    """
    grey = Image.fromarray(image).convert("L").resize((32, 32), Image.Resampling.BOX)
    low = dctn(np.asarray(grey, dtype=np.float64), norm="ortho")[:8, :8].round(6).ravel()
    bits = low > np.median(low[1:])
    return np.packbits(bits).tobytes().hex()


def build_catalog(data: Path, out: Path) -> pd.DataFrame:
    """Index every image and mask under ``data`` and write the table to ``out`` (Parquet).

    A mask that is empty, grey or of another size is recorded; the validation gate refuses it with
    its row. A class that dataset.yaml does not name gets fold -1, for the same reason.

    Raises:
        DataError: no data; or files that are unreadable, of an unknown type, missing or without a
            counterpart. The first 20 are listed with their reasons.
    """
    data = Path(data)
    folds, groups = _folds(data), read_sources(data)
    problems: list[str] = []
    entries = list(_entries(data, problems))
    known = {entry.image.relative_to(data).as_posix() for entry in entries}
    lost = (name for name in groups if name not in known and not (data / name).exists())
    problems += [f"{name}: named in sources.csv, but not there" for name in sorted(lost)]
    if not entries:
        refuse(problems, MEND)
        raise DataError(f"{data}: holds no images", NO_DATA)
    rows = [row for row in _measured(data, entries, problems) if row]
    refuse(problems, MEND)
    for row in rows:
        row["fold"] = folds.get(row["cls"], -1)
        group = groups.get(row["image"], {}).get("group_id") or Path(row["image"]).stem
        row["group"] = f"{row['cls']}/{group}"
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("image", ignore_index=True)
    with atomic_path(Path(out)) as temporary:
        table.to_parquet(temporary, index=False)
    return table


def load_catalog(path: Path) -> pd.DataFrame:
    """Read the table of `build_catalog`.

    Raises:
        DataError: the file is missing, no Parquet, or lacks a column.
    """
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found", "run `dvc repro catalog`") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a Parquet table: {error}", "run `dvc repro -f catalog`") from error
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}", "run `dvc repro -f catalog`")
    return table


def _folds(data: Path) -> dict[str, int]:
    """Class name to fold, from dataset.yaml."""
    path = data / "dataset.yaml"
    if not data.is_dir() or not any(data.iterdir()):
        raise DataError(f"{data}: no data there", NO_DATA)
    try:
        folds = yaml.safe_load(path.read_text(encoding="utf-8"))["folds"]
        return {str(name): number for number, names in enumerate(folds) for name in names}
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found, so no class has a fold", NO_DATA) from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: no `folds` of three lists of class names: {error}", "write it as docs/data.md shows"
        ) from error


def read_sources(data: Path) -> dict[str, dict[str, str]]:
    """The rows of ``data``/sources.csv by image key; none when there is no such file.

    Raises:
        DataError: not UTF-8 CSV, or without the columns ``file`` and ``group_id``.
    """
    path = data / "sources.csv"
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a UTF-8 CSV table: {error}", "save it as UTF-8 CSV") from error
    if rows and not {"file", "group_id"} <= rows[0].keys():
        raise DataError(f"{path}: lacks the columns file and group_id", "add them (docs/data.md)")
    return {row["file"]: {key: value or "" for key, value in row.items() if key} for row in rows}


def _entries(data: Path, problems: list[str]) -> Iterator[Entry]:
    for folder in sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if not any((folder / name).is_dir() for name in FOLDERS):
            problems.append(f"{folder}: a class folder without Images, GT or Nd")
            continue
        images, masks, clean = (_by_stem(folder / name, problems) for name in FOLDERS)
        problems += [f"{path}: has no mask in GT" for stem, path in images.items() if stem not in masks]
        problems += [f"{path}: a mask without an image" for stem, path in masks.items() if stem not in images]
        problems += [
            f"{path}: same name as {images[stem]}; their groups would mix"
            for stem, path in clean.items()
            if stem in images
        ]
        both = sorted(images.keys() & masks.keys())
        yield from (Entry(folder.name, "defect", images[stem], masks[stem]) for stem in both)
        yield from (Entry(folder.name, "clean", path, None) for path in clean.values())


def _by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or path.name in IGNORED:
            continue
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            problems.append(f"{path}: unknown file type")
        elif path.stem in found:
            problems.append(f"{path}: same name as {found[path.stem].name}")
        else:
            found[path.stem] = path
    return found


def _measured(data: Path, entries: list[Entry], problems: list[str]) -> Iterator[dict[str, Any]]:
    def attempt(entry: Entry) -> tuple[dict[str, Any], str]:
        try:
            return _row(data, entry), ""
        except DataError as error:
            return {}, error.what

    with ThreadPoolExecutor(WORKERS) as pool, progress("catalogue", len(entries)) as tick:
        for row, problem in pool.map(attempt, entries):
            problems += [problem] if problem else []
            tick()
            yield row


def _row(data: Path, entry: Entry) -> dict[str, Any]:
    """Pixels and digest are two readings of a file: it must be the same file in both."""
    files = [path for path in (entry.image, entry.mask) if path is not None]
    before = [_state(path) for path in files]
    row = _measure(data, entry)
    for path, state in zip(files, before, strict=True):
        if _state(path) != state:
            raise DataError(f"{path}: changed while it was read", "run again when nothing writes there")
    return row


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat() if path.exists() else None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found else (0, 0, 0)


def _measure(data: Path, entry: Entry) -> dict[str, Any]:
    image = read_image(entry.image)
    row = {
        "image": entry.image.relative_to(data).as_posix(),
        "cls": entry.cls,
        "kind": entry.kind,
        "width": image.shape[1],
        "height": image.shape[0],
        "sha256": sha256_file(entry.image),
        "phash": perceptual_hash(image),
    }
    return {**row, **_mask_columns(data, entry.mask)}


def _mask_columns(data: Path, mask: Path | None) -> Mapping[str, Any]:
    if mask is None:
        clean = {"mask": "", "mask_width": 0, "mask_height": 0, "mask_binary": True}
        return {**clean, "foreground": 0.0, "mask_sha256": ""}
    facts = measure_mask(mask)
    return {
        "mask": mask.relative_to(data).as_posix(),
        "mask_width": facts.width,
        "mask_height": facts.height,
        "mask_binary": facts.binary,
        "foreground": facts.foreground,
        "mask_sha256": sha256_file(mask),
    }
