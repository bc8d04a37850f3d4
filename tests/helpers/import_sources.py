"""Small images and masks in the shapes that data sets come in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

SIZE = (40, 30)


def picture(path: Path, seed: int = 0, size: tuple[int, int] = SIZE, mode: str = "RGB") -> Path:
    """A noisy picture; its format is that of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3)
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape, np.uint8)).convert(mode)
    image.save(path, Image.registered_extensions()[path.suffix.lower()])
    return path


def mask(
    path: Path,
    defect: bool = True,
    size: tuple[int, int] = SIZE,
    invert: bool = False,
    value: int = 255,
    row: int = 5,
) -> Path:
    """A mask of one rectangle from ``row`` on, of grey ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), np.uint8)
    values[row : row + 7, 5:20] = value * defect
    image = Image.fromarray(255 - values if invert else values)
    image.save(path, Image.registered_extensions()[path.suffix.lower()])
    return path


def pair(folder: Path, cls: str, name: str, mask_name: str = "", seed: int = 0) -> None:
    """An image and its mask in the canonical layout."""
    picture(folder / cls / "Images" / f"{name}.jpg", seed)
    mask(folder / cls / "GT" / f"{mask_name or name}.png")


def spec(path: Path, *rules: dict[str, object], **fields: object) -> Path:
    """A YAML file for ``--spec``."""
    path.write_text(yaml.safe_dump({"name": "own", "rules": list(rules), **fields}))
    return path


def names(data: Path, folders: Sequence[str] = ("Images", "GT", "Nd")) -> list[str]:
    """What lies in the class folders of a data folder, sorted."""
    return sorted(
        path.relative_to(data).as_posix() for folder in folders for path in data.glob(f"*/{folder}/*")
    )
