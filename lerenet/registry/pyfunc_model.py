"""The registered model as MLflow serves it: pictures in as base64, a mask out as a base64 PNG.

MLflow copies this file beside the weights and runs it when the model is loaded ("models from
code"), so that nothing is pickled. One row is one query:

- ``query``: base64 PNG or JPEG;
- ``support_images``: list of 1 to 5 base64 PNG or JPEG, one a shot, or none;
- ``support_masks``: list of base64 PNG (0 and 255), same length.

With supports the answer is about their defect: ``mask`` (base64 PNG, 0 and 255, in the query's own size; the mask that
``lerenet predict`` writes) and ``foreground_share``. Without, it is about every class that the version knows: ``mask``
is what any of them marks, ``verdict`` the worst of theirs, ``classes`` a list of ``name``, ``verdict``, ``score`` and
``share`` as JSON, as ``lerenet inspect`` has them.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from mlflow.pyfunc.model import PythonModel
from numpy.typing import NDArray

from lerenet.data.encoding import encode_mask
from lerenet.data.images import Pixels
from lerenet.data.pairs import read_pair
from lerenet.enrolment.enrolled import read_inspection
from lerenet.enrolment.inspect import Inspector
from lerenet.errors import DataError, LerenetError
from lerenet.inference import check_shots, enrol, prepare, read_query, segment
from lerenet.registry.registered import INSPECTION

MAX_BYTES = 64 * 2**20  # of one encoded picture
MOST = int(os.environ.get("LERENET_SERVED_ROWS", "200"))  # rows of one request
SECONDS = float(
    os.environ.get("LERENET_SERVED_SECONDS", "50")
)  # of one request; MLflow's server waits for 60


class ServedModel(PythonModel):
    """A `lerenet.models` network, and the classes that it knows, behind MLflow's pyfunc interface."""

    def load_context(self, context: Any) -> None:
        """Read weights and configuration from the model's folder; the weights' digest is checked."""
        from lerenet.models.serialization import load_network

        package = Path(context.artifacts["package"])
        self.loaded = prepare(load_network(package))
        self.inspector = None
        if (package / INSPECTION).is_dir():
            network, classes = read_inspection(package / INSPECTION)
            self.inspector = Inspector(network, classes)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Answer for the query of each row.

        Raises:
            MlflowException: a row that can't be used, more than `MOST` rows, or `SECONDS` have passed: a server answers
                with 400, or 503 for the time, and goes on with nothing.
        """
        if len(model_input) > MOST:
            raise _refused(
                f"{len(model_input)} rows, at most {MOST} are answered at once: send them in parts"
            )
        ends, rows = time.monotonic() + SECONDS, []
        enrolled: dict[tuple[str, ...], Any] = {}  # supports of this batch, encoded once
        for number, row in enumerate(model_input.to_numpy()):
            if time.monotonic() > ends:
                said = f"{number} of {len(model_input)} rows took {SECONDS:.0f} s: send fewer at once"
                raise MlflowException(said, error_code=TEMPORARILY_UNAVAILABLE)
            try:
                rows.append(self._row(dict(zip(model_input.columns, row, strict=True)), enrolled))
            except LerenetError as error:
                raise _refused(f"row {number}: {error}") from None
        return pd.DataFrame(rows, columns=["mask", "foreground_share", "verdict", "classes"])

    def _row(self, row: dict[str, Any], enrolled: dict[tuple[str, ...], Any]) -> dict[str, Any]:
        images, masks = (_listed(row.get(name)) for name in ("support_images", "support_masks"))
        if len(images) != len(masks):
            raise DataError(
                f"{len(images)} support images and {len(masks)} support masks", "give one mask an image"
            )
        with tempfile.TemporaryDirectory(prefix="lerenet-") as scratch:
            folder = Path(scratch)
            query = read_query(_file(row["query"], "query", folder))
            if not images:
                return self._inspected(query)
            check_shots(len(images))
            key = (*images, *masks)
            if key not in enrolled:
                supports = [
                    read_pair(
                        _file(image, f"support_images[{number}]", folder),
                        [_file(mask, f"support_masks[{number}]", folder)],
                    )
                    for number, (image, mask) in enumerate(zip(images, masks, strict=True))
                ]
                enrolled[key] = enrol(self.loaded, supports)
        marked, _ = segment(self.loaded, enrolled[key], [query])[0]
        return {**_mask(marked), "verdict": "", "classes": "[]"}

    def _inspected(self, query: Pixels) -> dict[str, Any]:
        if self.inspector is None:
            raise DataError("the version knows no class", "send support_images and support_masks")
        found = self.inspector(query)
        classes = json.dumps([asdict(one) for one in found.classes])
        return {**_mask(found.marks > 0), "verdict": found.verdict, "classes": classes}


def _refused(said: str) -> MlflowException:
    """What a server answers with status 400; a scratch folder's name is nobody's business."""
    return MlflowException(re.sub(r"\S*/lerenet-[^/\s]+/", "", said), error_code=INVALID_PARAMETER_VALUE)


def _listed(value: Any) -> list[str]:
    """A cell's list; what a client leaves out comes as None or NaN."""
    return [] if value is None or isinstance(value, float) else list(value)


def _mask(marked: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = base64.b64encode(encode_mask(marked)).decode("ascii")
    return {"mask": encoded, "foreground_share": float(marked.mean())}


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
