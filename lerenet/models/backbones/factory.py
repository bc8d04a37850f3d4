"""Backbones: a few levels of features of a timm network, executed no deeper than needed.

Level i is block i: ResNet's layer i (strides 4, 8, 16, 32); timm's feature i for any other network.
VGG16 follows the paper's reading. On a 200 x 200 image: level 0 is block 1 with its pool (64 channels
on 100 x 100), level 1 block 2 with its pool (128 on 50 x 50), level 2 conv3_3 with its pool (256 on
25 x 25), level 3 conv4_3 before its pool (512 on 25 x 25), level 4 conv5_3 before its pool. For vision
transformers see `lerenet.models.backbones.vit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lerenet.errors import ModelError
from lerenet.models.backbones.dilated import spread_pools
from lerenet.models.backbones.vgg import VGG_CHANNELS, VGGS, VGGLevels
from lerenet.models.backbones.vit import QUARTERS, ViTLevels
from lerenet.models.backbones.weights import AUTHORS, LITE0, NAMES, VIT, bundled, download, read_weights

LIGHT = (LITE0,)  # of these several passes are cheap
DILATED = (LITE0, "resnet50", "resnet101")  # can be; timm has more
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, std


class Backbone(nn.Module):
    """Features of some levels; images come in as they are, normalisation is inside.

    With ``turns`` 2 or 4 the features are the mean over the image turned by 180 or by 90, 180 and 270
    degrees, each turned back: what depends on where a pixel falls within a stride, or on the way a
    scratch runs, averages out (docs/experiments.md gives what that brings). It costs as many times the work.

    With ``stride`` 8 no level is coarser than an eighth of the image: where the network would halve its maps once
    more, it dilates its convolutions instead. The weights are the same ones, and every 2nd (level 3) or 4th (level 4)
    place of a ResNet's finer map is what the undilated network gives; of EfficientNet-Lite0's where sides are odd.

    Attributes:
        name: the backbone's name in the settings.
        levels: the levels that `forward` returns, ascending.
        channels: channels of each.
        turns: over how many turns of the image the features are averaged.
        stride: pixels of the image for a place of the deepest levels; None: the network's own.
    """

    def __init__(
        self,
        name: str,
        body: nn.Module,
        levels: Sequence[int],
        channels: Sequence[int],
        norm: Any,
        turns: int = 1,
        stride: int | None = None,
    ) -> None:
        super().__init__()
        self.name, self.body, self.turns, self.stride = name, body, turns, stride
        self.levels, self.channels = tuple(levels), tuple(channels)
        mean, std = norm
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] -> one (N, c_i, h_i, w_i) a level; H = W where there are several turns."""
        images = (images - self.mean) / self.std
        if self.turns == 1:
            maps: list[Tensor] = self.body(images)
            return maps
        quarters = range(0, 4, 4 // self.turns)
        turned = (turn(images, count) for count in quarters)
        passes: Iterable[Sequence[Tensor]]
        if images.shape[0] == 1 and not self.training:
            # On a CPU one batch is faster for a single picture, turn after turn for several.
            levels = self._pass(torch.cat(list(turned)))
            passes = zip(*(level.chunk(self.turns) for level in levels), strict=True)
        else:
            passes = map(self._pass, turned)
        sums: list[Tensor] = []
        for count, one in zip(quarters, passes, strict=True):
            back = [turn(level.float(), -count) for level in one]
            sums = [a + b for a, b in zip(sums, back, strict=True)] if sums else back
        return [level / self.turns for level in sums]

    def features(self, images: Tensor, levels: Sequence[int]) -> list[Tensor]:
        """What `forward` gives, of ``levels`` alone and in their order."""
        by_level = dict(zip(self.levels, self(images), strict=True))
        return [by_level[level] for level in levels]

    def _pass(self, images: Tensor) -> list[Tensor]:
        levels: list[Tensor] = self.body(images.contiguous(memory_format=torch.channels_last))
        return levels

    def like(self, levels: Sequence[int]) -> Backbone:
        """One of the same network, turns and stride with random weights, only as deep as ``levels`` need."""
        return create_backbone(self.name, "random", levels, self.turns, self.stride)

    def cut(self, levels: Sequence[int]) -> Backbone:
        """The same weights, only as deep as ``levels`` (some of this backbone's) need."""
        shallow = self.like(levels)
        load(shallow, self.state_dict(), f"the weights of {self.name}")
        return shallow.to(self.mean.device).eval()


def turn(maps: Tensor, quarters: int) -> Tensor:
    """(N, c, n, n) turned by so many quarters."""
    return torch.rot90(maps, quarters, (2, 3))


def create_backbone(
    name: str,
    init: str = "imagenet",
    levels: Sequence[int] = (2, 3),
    turns: int = 1,
    stride: int | None = None,
) -> Backbone:
    """Build a backbone.

    Args:
        name: ``efficientnet_lite0`` (its ImageNet weights come with the installation), ``resnet50``,
            ``resnet101``, ``vgg16``, ``vgg16_bn``, ``dinov2``, ``dinov3``, or any timm feature extractor.
        init: ``imagenet`` (or what timm's weights of that name were trained on), ``random``, or the path of
            a weights file (.safetensors, or a state dict that loads without unpickling code).
        levels: which levels to give; they come out ascending.
        turns: 1, 2 or 4 turns of the image, over which the features are averaged.
        stride: 8 dilates what is deeper than level 2; None: the network's own strides.

    Returns:
        The backbone in training mode, with no layer deeper than the last level.

    Raises:
        ModelError: unknown name or level, a network that can't be dilated, weights that can't be had or don't fit.
    """
    wanted = sorted(set(levels))
    body, channels, norm = _vgg(name, wanted, stride) if name in VGGS else _timm(name, wanted, stride)
    backbone = Backbone(name, body, wanted, channels, norm, turns, stride)
    if init == "imagenet":
        load(backbone, bundled() if name == LITE0 else download(name), f"the ImageNet weights of {name}")
    elif init != "random":
        load(backbone, read_weights(Path(init)), init)
    return backbone


def _refused(name: str, levels: list[int], offered: Sequence[int], stride: int | None = None) -> ModelError:
    if stride is None:
        return ModelError(f"{name} does not give the levels {levels}", f"choose among {list(offered)}")
    return ModelError(
        f"{name} does not give the levels {levels} at a stride of {stride}",
        f"leave `stride` out of the recipe's model, or use {', '.join(DILATED)} (levels {list(offered)})",
    )


def _require(name: str, levels: list[int], offered: Sequence[int], stride: int | None) -> None:
    if not levels or not set(levels) <= set(offered):
        raise _refused(name, levels, offered)
    if stride is not None:  # neither VGG nor a vision transformer is dilated
        raise _refused(name, levels, offered, stride)


def _vgg(name: str, levels: list[int], stride: int | None) -> tuple[nn.Module, list[int], Any]:
    _require(name, levels, range(5), stride)
    return VGGLevels(levels, name.endswith("_bn")), [VGG_CHANNELS[level] for level in levels], IMAGENET


def _timm(name: str, levels: list[int], stride: int | None) -> tuple[nn.Module, list[int], Any]:
    import timm

    model = NAMES.get(name, AUTHORS.get(name, name))
    extra: dict[str, Any] = {"stem_type": "deep", "stem_width": 64} if name in AUTHORS else {}
    extra |= {} if stride is None else {"output_stride": stride}
    if not timm.is_model(model):
        raise ModelError(
            f"no backbone {name!r}",
            f"use one of {', '.join([*NAMES, *AUTHORS])}, or a name that `timm.list_models()` gives",
        )
    if model.startswith(VIT):
        _require(name, levels, QUARTERS, stride)
        vit = ViTLevels(model, levels)
        return vit, [vit.width] * len(levels), (vit.pretrained["mean"], vit.pretrained["std"])
    try:
        body: Any = timm.create_model(model, features_only=True, out_indices=tuple(levels), **extra)
    except Exception as error:  # timm raises many kinds for a level, a network without features or dilation
        raise _refused(name, levels, range(5), stride) from error
    if stride is not None:
        if max(body.feature_info.reduction()) > stride:
            raise _refused(name, levels, range(5), stride)
        spread_pools(body)
    config = body.pretrained_cfg
    return body, list(body.feature_info.channels()), (config["mean"], config["std"])


def load(backbone: Backbone, state: Mapping[str, Tensor], source: str) -> None:
    """Fill a backbone from a state dict that may go deeper; a missing or misshapen tensor is an error."""
    own = backbone.state_dict()
    filled = {name: _tensor(state, name) for name in own}
    wrong = [name for name, value in filled.items() if value is None or value.shape != own[name].shape]
    if wrong:
        raise ModelError(
            f"{source}: {len(wrong)} tensors of {backbone.name} are missing or misshapen, first {wrong[0]}",
            f"give a file that was saved from {backbone.name}, with levels {list(backbone.levels)}",
        )
    backbone.load_state_dict(filled)


def _tensor(state: Mapping[str, Tensor], name: str) -> Tensor | None:
    """By our name of it, or by timm's."""
    names = (name, name.removeprefix("body."), name.removeprefix("body.model."))
    return next((state[key] for key in names if key in state), None)
