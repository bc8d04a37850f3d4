"""Make the catalogue: one row an image, with its mask, class, group, size, digests and perceptual hash."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn

from lerenet.data.catalog import COLUMNS
from lerenet.data.dataset import DATASET, SOURCES, Dataset, Folds, Row, read_dataset, read_sources
from lerenet.data.entries import Entry, find_entries
from lerenet.data.images import Pixels, read_image
from lerenet.data.masks import measure_mask
from lerenet.data.names import nfc
from lerenet.errors import DataError, refuse
from lerenet.files import atomic_path, sha256_file, shown, state_of
from lerenet.progress import progress

WORKERS = 2
NO_DATA = "make the sample with `lerenet data sample`, or bring your own: `lerenet data import PATH`"
MEND = "mend or delete the files named, or import the data again with `lerenet data import PATH`"


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
        DataError: no data; tables that contradict themselves; or files that are unreadable, of an unknown type,
            missing, without a counterpart or where nothing reads them. The first 20 are listed with their reasons.
    """
    data = Path(data)
    folds, groups = _table(data).folds, read_sources(data)
    problems: list[str] = []
    entries = find_entries(data, problems)
    problems += _table_problems(data, folds, groups)
    if not entries:
        refuse(problems, MEND)
        raise DataError(f"{shown(data)}: holds no images", NO_DATA)
    rows = [row for row in _measured(data, entries, problems) if row]
    refuse(problems, MEND)
    fold_of = {cls: number for number, names in enumerate(folds) for cls in names}
    for row in rows:
        row["fold"] = fold_of.get(row["cls"], -1)
        group = groups.get(nfc(row["image"]), {}).get("group_id") or Path(row["image"]).stem
        row["group"] = f"{row['cls']}/{group}"
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("image", ignore_index=True)
    with atomic_path(Path(out)) as temporary:
        table.to_parquet(temporary, index=False)
    return table


def _table(data: Path) -> Dataset:
    """dataset.yaml of the data."""
    if not data.is_dir() or not any(data.iterdir()):
        raise DataError(f"{shown(data)}: no data there", NO_DATA)
    dataset = read_dataset(data)
    if dataset is None:
        raise DataError(f"{shown(data / DATASET)}: not found, so no class has a fold", NO_DATA)
    return dataset


def _table_problems(data: Path, folds: Folds, groups: Mapping[str, Row]) -> list[str]:
    """Classes that a fold names and images that sources.csv names, without a folder or a file."""
    classes = {path.name for path in data.iterdir() if path.is_dir()}
    there = {nfc(path.relative_to(data).as_posix()) for path in data.glob("*/*/*")}
    return [
        *(
            f"{shown(data / DATASET)}: fold {number} names {cls}, but there is no folder {data / cls}"
            for number, names in enumerate(folds)
            for cls in names
            if cls not in classes
        ),
        *(f"{name}: named in {SOURCES}, but not there" for name in sorted(groups) if name not in there),
    ]


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
    before = [state_of(path) for path in files]
    row = _measure(data, entry)
    for path, state in zip(files, before, strict=True):
        if state_of(path) != state:
            raise DataError(
                f"{shown(path)}: changed while it was read", "run again when nothing writes there"
            )
    return row


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
