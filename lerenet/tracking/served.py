"""A network as a model that MLflow serves: saved with code, signature and example, and compared with the original."""

from __future__ import annotations

import base64
import io
import logging
import shutil
import warnings
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from lerenet.data.encoding import encode_png

if TYPE_CHECKING:
    from lerenet.loading import LoadedNetwork

log = logging.getLogger(__name__)

CODE = Path(__file__).parent / "pyfunc_model.py"
REQUIREMENTS = (
    "mlflow",
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "numpy",
    "pandas",
    "pillow",
    "pydantic",
)
SIDE = 64  # of the input example, in pixels
AGREE = 0.99  # IoU of two masks that are the same but for rounding: another device, a folded backbone


def save(path: Path, package: Path) -> None:
    """Write the MLflow model ``path`` that serves the network in ``package``."""
    images, masks, query = example()
    row = {
        "support_images": [_encoded(image) for image in images],
        "support_masks": [_encoded(mask.astype(np.uint8) * 255) for mask in masks],
        "query": _encoded(query),
    }
    pyfunc().save_model(
        str(path),
        python_model=str(CODE),
        artifacts={"package": str(package)},
        signature=_signature(),
        input_example=pd.DataFrame([row]),
        pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
    )


def agrees(model: Path, loaded: LoadedNetwork) -> bool:
    """Whether the MLflow model in the folder ``model`` answers its own example with the mask of ``loaded``.

    A model that MLflow can't load does not.
    """
    from mlflow.exceptions import MlflowException

    from lerenet.inference import enrol, segment

    shutil.rmtree(model / "__pycache__", ignore_errors=True)  # no digest covers compiled code
    try:
        found = pyfunc().load_model(str(model))
    except MlflowException as error:
        log.warning("MLflow can't load %s: %s", model, error)
        return False
    answer = found.predict(found.input_example)
    served = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"][0])))) > 0
    images, masks, query = example()
    state = enrol(loaded, list(zip(images, masks, strict=True)))
    own, _ = segment(loaded, state, [query])[0]
    return bool((served & own).sum() >= AGREE * (served | own).sum())


def pyfunc() -> Any:
    """The module `mlflow.pyfunc`, imported without what it warns of itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
    return mlflow.pyfunc


def example() -> tuple[list[Any], list[Any], Any]:
    """A made-up episode: one support image (S, S, 3) with its mask (S, S), and a query (S, S, 3).

    A dark square on a ground that grows lighter from left to right, so that a network's probabilities take
    many values.
    """
    rng = np.random.default_rng(0)
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[20:44, 20:44] = True
    support = _picture(mask, rng)
    return [support], [mask], _picture(np.roll(mask, 9, axis=1), rng)


def _picture(dark: Any, rng: np.random.Generator) -> Any:
    """(S, S, 3) uint8: ``dark`` (S, S) on a ground that grows lighter from left to right, with grain."""
    grey = np.where(dark, 40, np.linspace(60, 200, SIDE)) + rng.normal(0, 12, dark.shape)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    texts = Array(DataType.string)
    inputs = Schema(
        [ColSpec(texts, "support_images"), ColSpec(texts, "support_masks"), ColSpec("string", "query")]
    )
    outputs = Schema([ColSpec("string", "mask"), ColSpec("double", "foreground_share")])
    return ModelSignature(inputs=inputs, outputs=outputs)


def _encoded(picture: Any) -> str:
    return base64.b64encode(encode_png(picture)).decode("ascii")
