"""Pictures with a bright blob, a network that needs no training, and a way to stop a call half-way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lerenet.inference import prepare
from lerenet.models.serialization import LoadedNetwork, matching_network
from tests.helpers.factories import blob, texture

SIZE = 96


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (80, 60)) -> Path:
    """A texture with a bright blob, ``size`` = (width, height); its mask beside it as <stem>_truth.png."""
    draw(path, seed, size)
    return path


def draw(path: Path, seed: int, size: tuple[int, int], mask: bool = True) -> None:
    rng = np.random.default_rng(seed)
    image, marked = texture(rng, 1, 96), blob(rng, 96)
    image[marked] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).resize(size).save(path)
    if mask:
        Image.fromarray(marked.astype(np.uint8) * 255).resize(size, 0).save(truth(path))


def truth(path: Path) -> Path:
    return path.with_name(f"{path.stem}_truth.png")


def pictures(folder: Path, count: int) -> list[Path]:
    """Pictures p00.png, p01.png, … without masks."""
    found = [folder / f"p{number:02}.png" for number in range(count)]
    for number, path in enumerate(found):
        draw(path, number + 20, (80, 60), mask=False)
    return found


def network() -> LoadedNetwork:
    """The training-free matcher on a random backbone, the same in every process."""
    torch.manual_seed(0)
    return matching_network(SIZE, init="random")


_PREPARED: dict[int, tuple[LoadedNetwork, LoadedNetwork]] = {}


def prepared(loaded: LoadedNetwork) -> LoadedNetwork:
    """`lerenet.inference.prepare`, once for each network."""
    if id(loaded) not in _PREPARED:
        _PREPARED[id(loaded)] = loaded, prepare(loaded)  # kept alive, so that no other gets its id
    return _PREPARED[id(loaded)][1]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
