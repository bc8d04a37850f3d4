"""What drift is measured by, beside the catalogue: brightness, contrast and embedding of each defect image."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lerenet.data.cataloguing import build_catalog
from lerenet.data.images import Pixels, read_image
from lerenet.data.scaling import resize_image
from lerenet.drift.compare import load_profiled
from lerenet.progress import progress

BACKBONE, LEVEL = (
    "efficientnet_lite0",
    4,
)  # with ImageNet weights: the same for every version of data and model
SIDE = 224  # pixels
GREY = np.array([0.299, 0.587, 0.114])  # of red, green, blue
Embed = Callable[[Pixels], NDArray[np.float32]]


def profile_images(catalog: pd.DataFrame, data: Path, embeddings: bool = True) -> pd.DataFrame:
    """Profile the defect images of a catalogue.

    Returns:
        Columns ``image``, ``brightness`` and ``contrast`` (mean and standard deviation of the grey image,
        0 to 1) and, unless ``embeddings`` is false, ``embedding``: the mean over the places of the frozen
        backbone's last level, 320 numbers.

    Raises:
        DataError: an image is missing or can't be read.
    """
    images = sorted(catalog.loc[catalog["kind"] == "defect", "image"])
    embed = load_embedder() if embeddings else None
    rows = []
    with progress("profile", len(images)) as tick:
        for image in images:
            rows.append({"image": image, **_row(read_image(data / image), embed)})
            tick()
    columns = ["image", "brightness", "contrast", *(["embedding"] if embeddings else [])]
    return pd.DataFrame(rows, columns=columns)


def _row(picture: Pixels, embed: Embed | None) -> dict[str, Any]:
    grey = picture @ GREY / 255
    facts: dict[str, Any] = {"brightness": float(grey.mean()), "contrast": float(grey.std())}
    return facts | ({"embedding": embed(picture)} if embed else {})


def load_embedder() -> Embed:
    """The frozen backbone as a function of one picture."""
    import torch

    from lerenet.device import pick_device
    from lerenet.models.backbones.factory import create_backbone

    device = pick_device()
    backbone = create_backbone(BACKBONE, levels=[LEVEL]).to(device).eval()

    @torch.inference_mode()
    def embed(picture: Pixels) -> NDArray[np.float32]:
        batch = torch.from_numpy(resize_image(picture, SIDE).copy()).permute(2, 0, 1)[None]
        (level,) = backbone(batch.to(device).float() / 255)  # (1, 320, 7, 7)
        embedding: NDArray[np.float32] = level.mean((0, 2, 3)).cpu().numpy()
        return embedding

    return embed


def profiled(path: Path, embeddings: bool = True) -> pd.DataFrame:
    """Catalogue and profile of a data folder, measured now, or of a catalogue file.

    Raises:
        DataError: files that can't be used, or no catalogue.
    """
    if not path.is_dir():
        return load_profiled(path)
    with tempfile.TemporaryDirectory(prefix="lerenet-drift-") as folder:
        catalog = build_catalog(path, Path(folder) / "catalog.parquet")
    return catalog.merge(profile_images(catalog, path, embeddings), "left", "image")
