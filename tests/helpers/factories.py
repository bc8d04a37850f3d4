"""A tiny data set in the canonical layout, made in well under a second."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

COLUMNS = ["cls", "kind", "file", "group_id", "source", "source_path", "provenance"]


def tiny_dataset(
    path: Path,
    classes: int = 12,
    defect: int = 6,
    clean: int = 2,
    size: int = 64,
    groups: int | None = None,
    seed: int = 0,
) -> Path:
    """Write `classes` classes `C00`, `C01`, ... into the folder `path` and return it.

    Each image is a smooth random texture of its class with a bright or dark blob where the mask is
    set. `groups` is the number of specimens among a class's defect images (image i shows specimen
    i % groups); None: every image is its own group. Folds are thirds of the sorted class names.
    """
    names = [f"C{number:02}" for number in range(classes)]
    rows = [
        row
        for number, name in enumerate(names)
        for row in _class(path, number, name, defect, clean, size, groups, seed)
    ]
    with (path / "sources.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])
    third = -(-classes // 3)
    folds = [names[:third], names[third : 2 * third], names[2 * third :]]
    dataset = {"name": "tiny", "licence": "CC0-1.0", "folds": folds}
    (path / "dataset.yaml").write_text(yaml.safe_dump(dataset, sort_keys=False), encoding="utf-8")
    return path


def _class(
    path: Path, number: int, name: str, defect: int, clean: int, size: int, groups: int | None, seed: int
) -> list[list[str]]:
    rows = []
    for folder in ("Images", "GT", "Nd") if clean else ("Images", "GT"):
        (path / name / folder).mkdir(parents=True, exist_ok=True)
    for kind, folder, count in (("defect", "Images", defect), ("clean", "Nd", clean)):
        for index in range(count):
            stem = f"{name}_{kind}_{index:03}"
            rng = np.random.default_rng([seed, number, kind == "clean", index])
            image = texture(rng, number, size)
            if kind == "defect":
                mask = blob(rng, size)
                shade = 40 if number % 2 else 225
                image[mask] = (0.3 * image[mask] + 0.7 * shade).astype(np.uint8)
                Image.fromarray(mask.astype(np.uint8) * 255).save(path / name / "GT" / f"{stem}.png")
            file = f"{name}/{folder}/{stem}.jpg"
            Image.fromarray(image).save(path / file, quality=90)
            group = f"g{index % groups}" if groups and kind == "defect" else ""
            rows.append([name, kind, file, group, "tiny", file, "generated"])
    return rows


def texture(rng: np.random.Generator, number: int, size: int) -> np.ndarray:
    """A smooth random RGB picture (size, size, 3) uint8, with stripes that differ by class number."""
    coarse = rng.integers(70, 190, (6, 6, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC), dtype=float)
    stripes = 12 * np.sin(np.arange(size) * (0.3 + 0.1 * number))
    return np.clip(image + stripes[:, None, None], 0, 255).astype(np.uint8)


def blob(rng: np.random.Generator, size: int) -> np.ndarray:
    """A filled ellipse somewhere inside (size, size), bool."""
    y, x = np.mgrid[:size, :size]
    cy, cx = rng.uniform(0.3, 0.7, 2) * size
    ry, rx = rng.uniform(0.08, 0.2, 2) * size
    inside: np.ndarray = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
    return inside
