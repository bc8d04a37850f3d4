"""The embedded sample data set: procedurally made surfaces with defects, the same bytes every time.

Every number comes from ``numpy.random.default_rng`` seeded by (seed, class, specimen), all arithmetic
is float64, and only the last step rounds to bytes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lerenet.data.dataset import COLUMNS, write_tables
from lerenet.data.encoding import write_jpeg, write_mask
from lerenet.data.sample.classes import KINDS, Kind
from lerenet.data.sample.defects import Mask
from lerenet.data.sample.textures import Field, grid, noise
from lerenet.files import atomic_dir

SIZES = ((160, 200), (176, 176), (200, 160), (192, 240), (224, 208))
MARGIN = 12  # pixels by which a shot of a specimen may be shifted
MAX_SHOTS = 3
QUALITY = 82
MOTTLE = 0.07  # of numbered classes: else specimens of one kind are near-duplicates in large data sets
Pixels = NDArray[np.uint8]


def make_sample(
    data: Path, seed: int = 0, defect: int = 24, clean: int = 12, classes: int = len(KINDS)
) -> None:
    """Write the sample data set to ``data``, whole or not at all; what stood there is replaced.

    Args:
        data: the data folder.
        seed: of everything.
        defect: defect images a class.
        clean: clean images a class.
        classes: how many; after the twelve kinds come mottled ones of the same kinds under numbered names.
    """
    kinds = [_numbered(number) for number in range(classes)]
    with atomic_dir(data) as folder:
        rows = [
            row
            for number, kind in enumerate(kinds)
            for row in _class(folder, kind, (seed, number), defect, clean)
        ]
        folds = [[kind.name for kind in kinds if kind.fold == fold] for fold in range(3)]
        named = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        write_tables(folder, named, folds, {"name": "lerenet-sample", "licence": "CC0-1.0"})


def _numbered(number: int) -> Kind:
    again, which = divmod(number, len(KINDS))
    kind = KINDS[which]
    return replace(kind, name=f"{kind.name}_{again + 1}", mottle=MOTTLE) if again else kind


def _class(folder: Path, kind: Kind, key: tuple[int, int], defect: int, clean: int) -> list[tuple[str, ...]]:
    for name in ("Images", "GT", "Nd"):
        (folder / kind.name / name).mkdir(parents=True)
    rows, specimen, made = [], 0, 0
    while made < defect:
        rng = np.random.default_rng([*key, 0, specimen])
        surface, mask = _specimen(np.random.default_rng([*key, 1, specimen]), kind, True)
        for shot in range(min(int(rng.integers(1, MAX_SHOTS + 1)), defect - made)):
            stem = f"{kind.name}_{made:03d}"
            picture, cut = _shot(np.random.default_rng([*key, 2, specimen, shot]), kind, surface, mask)
            write_jpeg(folder / kind.name / "Images" / f"{stem}.jpg", picture, QUALITY)
            write_mask(folder / kind.name / "GT" / f"{stem}.png", cut)
            rows.append(_row(kind, "defect", f"Images/{stem}.jpg", f"{kind.name}_s{specimen:02d}"))
            made += 1
        specimen += 1
    for index in range(clean):
        stem = f"{kind.name}_clean_{index:03d}"
        surface, mask = _specimen(np.random.default_rng([*key, 3, index]), kind, False)
        picture, _ = _shot(np.random.default_rng([*key, 4, index]), kind, surface, mask)
        write_jpeg(folder / kind.name / "Nd" / f"{stem}.jpg", picture, QUALITY)
        rows.append(_row(kind, "clean", f"Nd/{stem}.jpg", f"{kind.name}_c{index:02d}"))
    return rows


def _row(kind: Kind, what: str, file: str, group: str) -> tuple[str, ...]:
    return (kind.name, what, f"{kind.name}/{file}", group, "lerenet data sample", "", "procedural")


def _specimen(rng: np.random.Generator, kind: Kind, defective: bool) -> tuple[Field, Mask]:
    """A surface larger than a shot by the margin, and the mask of its defect."""
    height, width = SIZES[int(rng.integers(len(SIZES)))]
    shape = (height + MARGIN, width + MARGIN)
    surface = kind.texture(rng, shape[0], shape[1])
    if kind.mottle:
        surface = surface + kind.mottle * noise(rng, shape[0], shape[1], 20)
    if not defective:
        return surface, np.zeros(shape, dtype=bool)
    while True:
        changed, mask = kind.defect(rng, surface)
        if mask[MARGIN:-MARGIN, MARGIN:-MARGIN].sum() >= 20:
            return changed, mask


def _shot(rng: np.random.Generator, kind: Kind, surface: Field, mask: Mask) -> tuple[Pixels, Mask]:
    """One photograph: shifted, lit from somewhere, exposed, with sensor noise; perhaps mirrored."""
    top, left = (int(value) for value in rng.integers(0, MARGIN + 1, 2))
    height, width = surface.shape[0] - MARGIN, surface.shape[1] - MARGIN
    window = (slice(top, top + height), slice(left, left + width))
    view, cut = surface[window], mask[window]
    rows, columns = grid(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    light = (rows / height - 0.5) * np.sin(angle) + (columns / width - 0.5) * np.cos(angle)
    view = view * rng.uniform(0.8, 1.2) * (1 + rng.uniform(0, 0.35) * light) + rng.normal(
        0, 0.012, view.shape
    )
    tint = np.array(kind.tint if kind.tint else (1.0, 1.0, 1.0))
    colour = np.clip(view[:, :, None] * tint, 0, 1)
    return np.floor(colour * 255 + 0.5).astype(np.uint8), cut
