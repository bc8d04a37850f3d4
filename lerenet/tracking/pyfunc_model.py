"""The registered model as MLflow serves it: pictures in as base64, a mask out as a base64 PNG.

MLflow copies this file beside the weights and runs it when the model is loaded ("models from
code"), so that nothing is pickled. One row is one query:

- ``support_images``: list of base64 PNG or JPEG, one a shot;
- ``support_masks``: list of base64 PNG (0 and 255), same length;
- ``query``: base64 PNG or JPEG.

The answer holds ``mask`` (base64 PNG, 0 and 255, in the query's own size) and ``foreground_share``.
"""

from __future__ import annotations

import base64
import binascii
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from lerenet.errors import DataError

MAX_BYTES = 64 * 2**20  # of one encoded picture
MAX_SHOTS = 16


class ServedModel(PythonModel):
    """A `lerenet.models` network behind MLflow's pyfunc interface."""

    def load_context(self, context: Any) -> None:
        """Read weights and configuration from the model's folder; the weights' digest is checked."""
        from lerenet.loading import load_network

        self.loaded = load_network(Path(context.artifacts["package"]))
        self.size = self.loaded.image_size

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Segment the query of each row."""
        rows = [self._row(dict(zip(model_input.columns, row, strict=True))) for row in model_input.to_numpy()]
        return pd.DataFrame(rows, columns=["mask", "foreground_share"])

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        images, masks = list(row["support_images"]), list(row["support_masks"])
        if not images or len(images) != len(masks) or len(images) > MAX_SHOTS:
            raise DataError(
                f"{len(images)} support images and {len(masks)} support masks",
                f"give 1 to {MAX_SHOTS} support images and one mask for each",
            )
        query = _image(row["query"], "query")
        found = self._segment(_supports(images, masks, self.size), query)
        return {"mask": _png(found), "foreground_share": float(found.mean())}

    def _segment(self, support: tuple[Any, Any], query: Any) -> Any:
        """(H, W) bool of supports ((K, s, s, 3) uint8, (K, s, s) bool) and a query (H, W, 3) uint8."""
        import torch
        from torch.nn.functional import interpolate

        from lerenet.data.images import resize_image

        images = torch.from_numpy(np.stack(support[0])).permute(0, 3, 1, 2).float() / 255  # (K, 3, s, s)
        masks = torch.from_numpy(np.stack(support[1])).float()  # (K, s, s)
        small = torch.from_numpy(np.array(resize_image(query, self.size)))
        picture = small.permute(2, 0, 1).float() / 255  # (3, s, s)
        with torch.inference_mode():
            logits = self.loaded.network(images[None], masks[None], picture[None])  # (1, s, s)
            whole = interpolate(
                logits[:, None].float(), size=query.shape[:2], mode="bilinear"
            )  # (1, 1, H, W)
        return (whole[0, 0] > self.loaded.threshold).cpu().numpy()


def _supports(images: Sequence[str], masks: Sequence[str], size: int) -> tuple[list[Any], list[Any]]:
    from lerenet.data.images import resize_image, resize_mask

    pictures = [resize_image(_image(text, f"support_images[{i}]"), size) for i, text in enumerate(images)]
    return pictures, [resize_mask(_mask(text, f"support_masks[{i}]"), size) for i, text in enumerate(masks)]


def _image(text: str, name: str) -> Any:
    from lerenet.data.images import read_image

    return _read(text, name, read_image)


def _mask(text: str, name: str) -> Any:
    from lerenet.data.images import read_mask

    return _read(text, name, read_mask)


def _read(text: str, name: str, reader: Any) -> Any:
    """Decode with the reader of the training data, which checks size and format."""
    if len(text) > MAX_BYTES:
        raise DataError(f"{name}: more than {MAX_BYTES // 2**20} MB", "send a smaller picture")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{name}: not base64: {error}", "send the file's bytes as base64") from error
    with tempfile.TemporaryDirectory(prefix="lerenet-") as folder:
        path = Path(folder) / (name.replace("[", "_").replace("]", "") + _suffix(raw))
        path.write_bytes(raw)
        return reader(path)


def _suffix(raw: bytes) -> str:
    return ".jpg" if raw.startswith(b"\xff\xd8") else ".png"


def _png(found: Any) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(found.astype(np.uint8) * 255).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


set_model(ServedModel())
