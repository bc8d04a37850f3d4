"""Whether a data folder is whole, in words."""

from __future__ import annotations

from pathlib import Path

from lerenet.data.cataloguing import build_catalog
from lerenet.data.dataset import read_sources
from lerenet.errors import LerenetError
from lerenet.files import TEMPORARY


def faults_of(data: Path) -> list[str]:
    """What is half-written: tables or images that can't be read, images without mask or row, and what is left over."""
    try:
        catalog = build_catalog(data, data.parent / "catalog.parquet")
    except LerenetError as error:
        return [str(error)]
    table, images = set(read_sources(data)), {path.relative_to(data).as_posix() for path in listed(data)}
    found = [f"{file}: not both image and row" for file in sorted(table ^ images)]
    defects = {path for path in listed(data) if path.parent.name == "Images"}
    masks = {path.parents[1] / "Images" / f"{path.stem}.jpg" for path in data.glob("*/GT/*")}
    found += [f"{path}: not both image and mask" for path in sorted(defects ^ masks)]
    if len(catalog) != len(images):
        found.append(f"{len(catalog)} images in the catalogue, {len(images)} in the folder")
    return found + [
        f"left: {path}" for path in (*data.rglob(f"{TEMPORARY}*"), *data.parent.glob(f"{TEMPORARY}*"))
    ]


def listed(data: Path) -> list[Path]:
    """Every image of the folder."""
    return [path for kind in ("Images", "Nd") for path in sorted(data.glob(f"*/{kind}/*"))]
