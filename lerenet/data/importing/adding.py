"""One image into ``data/``: a marked defect, a corrected mask, or a good part, with its group, who gave it and when."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lerenet.data.dataset import DATASET, Row, read_dataset, read_sources, write_tables
from lerenet.data.encoding import write_jpeg, write_mask
from lerenet.data.images import MIN_SIDE, Pixels, image_facts, read_image
from lerenet.data.importing.assembling import keep
from lerenet.data.listing import readable
from lerenet.data.names import nfc, safe_stem
from lerenet.data.pairs import read_pair
from lerenet.data.reading import PLAIN, Reading
from lerenet.data.scaling import Mask
from lerenet.errors import DataError
from lerenet.files import alone, atomic_dir, sha256_file, shown
from lerenet.params import ValidationSettings

DIGITS = 12  # of a photo's SHA-256, in its name: the same photo again takes its own place


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
    """

    cls: str
    image: Path
    masks: Sequence[Path] = ()
    group: str = ""
    by: str = "unknown"
    reading: Reading = PLAIN


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
    pixels, mask = _read(given, limits or ValidationSettings())
    digest = sha256_file(given.image)
    with alone(data.with_name(f".{data.name}-adding")):
        table = _require_class(data, given.cls)
        stem = _stem(data, given, digest)
        folder = "Nd" if mask is None else "Images"
        file = f"{given.cls}/{folder}/{stem}.jpg"
        said = f"{'corrected' if _there(data, given.cls, stem) else 'added'} by {given.by}, {_now()}, sha256 {digest}"
        before = next(
            (row for key, row in table.items() if Path(key).stem == stem and key.startswith(f"{given.cls}/")),
            {},
        )
        row = {
            "cls": given.cls, "kind": "clean" if mask is None else "defect", "file": file,
            "group_id": given.group or before.get("group_id", "") or stem, "source": before.get("source", ""),
            "source_path": before.get("source_path", "") or given.image.name, "provenance": said,
        }  # fmt: skip
        dataset = read_dataset(data)
        assert dataset is not None
        with atomic_dir(data) as target:
            keep(data, target, set(), _linked)
            for path in _there(target, given.cls, stem):
                path.unlink()
            _place(target / file, given.image, pixels)
            if mask is not None:
                write_mask(target / given.cls / "GT" / f"{stem}.png", mask)
            others = [one for key, one in table.items() if key != before.get("file", file)]
            rows = sorted([*others, row], key=lambda one: one["file"])
            write_tables(target, rows, dataset.folds, dataset.about())
    return file


def _read(given: Given, limits: ValidationSettings) -> tuple[Pixels, Mask | None]:
    if not given.masks:
        pixels = read_image(given.image, given.reading.bits)
        if min(pixels.shape[:2]) < MIN_SIDE:
            raise DataError(f"{shown(given.image)}: under {MIN_SIDE} pixels on a side", "give a larger photo")
        return pixels, None
    pixels, mask = read_pair(given.image, list(given.masks), given.reading)
    share = float(mask.mean())
    if not limits.min_foreground <= share <= limits.max_foreground:
        raise DataError(
            f"{shown(given.masks[0])}: marks {share:.4%} of the photo",
            f"between {limits.min_foreground:.2%} and {limits.max_foreground:.0%} may be; or say that it is good",
        )
    return pixels, mask


def _require_class(data: Path, cls: str) -> dict[str, Row]:
    """The rows of sources.csv of a data folder that has the class."""
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
    return read_sources(data)


def _stem(data: Path, given: Given, digest: str) -> str:
    """The name of the same photo where the class has it, else a new one."""
    for folder in ("Images", "Nd"):
        for path in sorted((data / given.cls / folder).glob("*")):
            if path.stem.endswith(f"-{digest[:DIGITS]}") or _same(path, given.image, digest):
                return path.stem
    return f"{safe_stem(nfc(given.image.stem))[:80]}-{digest[:DIGITS]}"


def _same(path: Path, image: Path, digest: str) -> bool:
    return path.stat().st_size == image.stat().st_size and sha256_file(path) == digest


def _there(data: Path, cls: str, stem: str) -> list[Path]:
    """Image and mask of that name, whatever they are now."""
    folders = (data / cls / name for name in ("Images", "GT", "Nd"))
    return [path for folder in folders for path in sorted(folder.glob(f"{stem}.*")) if readable(path.name)]


def _place(out: Path, image: Path, pixels: Pixels) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    facts = image_facts(image)
    if facts.format == "JPEG" and facts.mode in ("L", "RGB") and facts.orientation == 1:
        shutil.copyfile(image, out)
    else:
        write_jpeg(out, pixels)


def _linked(source: str, target: str) -> str:
    """A file under a second name, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
