"""The registered model as MLflow serves it: pictures in as base64, a mask out as a base64 PNG.

MLflow copies this file beside the weights and runs it when the model is loaded ("models from
code"), so that nothing is pickled. One row is one query:

- ``support_images``: list of 1 to 5 base64 PNG or JPEG, one a shot;
- ``support_masks``: list of base64 PNG (0 and 255), same length;
- ``query``: base64 PNG or JPEG.

The answer holds ``mask`` (base64 PNG, 0 and 255, in the query's own size; the mask that ``lerenet predict``
writes) and ``foreground_share``.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from lerenet.data.encoding import encode_mask
from lerenet.data.pairs import read_pair
from lerenet.errors import DataError
from lerenet.inference import check_shots, enrol, prepare, read_query, segment

MAX_BYTES = 64 * 2**20  # of one encoded picture


class ServedModel(PythonModel):
    """A `lerenet.models` network behind MLflow's pyfunc interface."""

    def load_context(self, context: Any) -> None:
        """Read weights and configuration from the model's folder; the weights' digest is checked."""
        from lerenet.models.serialization import load_network

        self.loaded = prepare(load_network(Path(context.artifacts["package"])))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Segment the query of each row."""
        rows = [self._row(dict(zip(model_input.columns, row, strict=True))) for row in model_input.to_numpy()]
        return pd.DataFrame(rows, columns=["mask", "foreground_share"])

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        images, masks = list(row["support_images"]), list(row["support_masks"])
        if len(images) != len(masks):
            raise DataError(
                f"{len(images)} support images and {len(masks)} support masks", "give one mask an image"
            )
        check_shots(len(images))
        with tempfile.TemporaryDirectory(prefix="lerenet-") as scratch:
            folder = Path(scratch)
            supports = [
                read_pair(
                    _file(image, f"support_images[{number}]", folder),
                    [_file(mask, f"support_masks[{number}]", folder)],
                )
                for number, (image, mask) in enumerate(zip(images, masks, strict=True))
            ]
            query = read_query(_file(row["query"], "query", folder))
        marked, _ = segment(self.loaded, enrol(self.loaded, supports), [query])[0]
        return {
            "mask": base64.b64encode(encode_mask(marked)).decode("ascii"),
            "foreground_share": float(marked.mean()),
        }


def _file(text: str, name: str, folder: Path) -> Path:
    """Write a decoded picture as a file, for the readers of the training data, which check size and format."""
    if len(text) > MAX_BYTES:
        raise DataError(f"{name}: more than {MAX_BYTES // 2**20} MB", "send a smaller picture")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{name}: not base64: {error}", "send the file's bytes as base64") from error
    path = folder / (name + (".jpg" if raw.startswith(b"\xff\xd8") else ".png"))
    path.write_bytes(raw)
    return path


set_model(ServedModel())
