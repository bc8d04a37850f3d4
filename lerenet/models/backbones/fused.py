"""A folded backbone as oneDNN runs it best on a CPU: fewer passes over memory, the same features.

A convolution takes in the activation behind it and the uneven padding before it, and its weights are laid out once.
Blocks whose maps are too large for the processor's cache see one turn of the picture after the other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from lerenet.models.backbones.factory import Backbone

ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
LARGE = 3_000_000  # bytes of one picture's map, beyond which pictures go one by one
TOLERANCE = 1e-3  # relative to the largest value; rounding gives about 1e-6
Place = tuple[nn.Module, str]  # a module's parent and its name there


@torch.no_grad()
def fuse(backbone: Backbone, side: int) -> Backbone:
    """The same features on a CPU, in less time.

    Args:
        backbone: Folded (`fuse_batchnorm`), in eval mode, on the CPU; left as it is.
        side: Of the pictures that it is for, in pixels.

    Returns:
        A copy for prediction alone; or ``backbone`` itself where nothing can be fused, this torch has no oneDNN, or
        the features of a picture of noise would change.
    """
    fused = copy.deepcopy(backbone)
    convolutions = list(_convolutions(fused)) if _available() else []
    for (parent, name), convolution, (follower, behind) in convolutions:
        setattr(parent, name, Fused(convolution, behind))
        if type(behind) in ACTIVATIONS:
            setattr(parent, follower, nn.Identity())
    if not convolutions or not _same(fused, backbone, side):
        return backbone
    _one_by_one(fused)
    return fused


def _available() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _convolutions(whole: nn.Module) -> Iterator[tuple[Place, nn.Conv2d, tuple[str, nn.Module]]]:
    """Where each convolution stands, itself, and name and module of what stands behind it."""
    for parent in list(whole.modules()):
        for (name, module), behind in pairwise([*parent.named_children(), ("", nn.Identity())]):
            if not isinstance(module, nn.Conv2d) or isinstance(module.padding, str):
                continue
            if module.padding_mode == "zeros":
                yield (parent, name), module, behind


def _same(one: Backbone, other: Backbone, side: int) -> bool:
    noise = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    pairs = zip(one(noise), other(noise), strict=True)
    return all(bool((a - b).abs().max() <= TOLERANCE * b.abs().max()) for a, b in pairs)


def _one_by_one(backbone: Backbone) -> None:
    """Let the stages with large maps see picture after picture."""
    stages = getattr(backbone.body, "blocks", None)
    for place, stage in enumerate(stages if isinstance(stages, nn.Sequential) else ()):
        if max((part.bytes for part in stage.modules() if isinstance(part, Fused)), default=0) > LARGE:
            cast(nn.Sequential, stages)[place] = OneByOne(stage)


class OneByOne(nn.Module):
    """A part that sees one picture of a batch after the other."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, maps: Tensor) -> Tensor:
        """(N, c, h, w) -> what ``part`` makes of it."""
        return torch.cat([self.part(one) for one in maps.split(1)])


class Fused(nn.Module):
    """A convolution with the activation ``behind`` it, for prediction; its weights are laid out once a shape.

    Attributes:
        bytes: Of the map that it gave last, for one picture.
    """

    def __init__(self, convolution: nn.Conv2d, behind: nn.Module) -> None:
        super().__init__()
        self.convolution, self.bytes = convolution, 0
        self.activation = ACTIVATIONS.get(type(behind), ("none", []))
        self.same = type(convolution).__name__ == "Conv2dSame"  # timm's: padded as TensorFlow pads
        self._ready: dict[torch.Size, tuple[Tensor, list[int], list[int]]] = {}

    def forward(self, maps: Tensor) -> Tensor:
        """(N, c, h, w) -> (N, c', h', w')."""
        if maps.shape not in self._ready:
            self._ready[maps.shape] = self._lay_out(list(maps.shape))
        weight, before, around = self._ready[maps.shape]
        own = self.convolution
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            pad(maps, before) if any(before) else maps,
            weight, own.bias, around, own.stride, own.dilation, own.groups, *self.activation, "",
        )  # fmt: skip
        self.bytes = out[0].numel() * out.element_size()
        return out

    def _lay_out(self, shape: list[int]) -> tuple[Tensor, list[int], list[int]]:
        """Weights as oneDNN wants them, what to pad before it ([left, right, top, bottom]), and its own padding."""
        own, weight, before = self.convolution, self.convolution.weight, [0, 0, 0, 0]
        around = [int(side) for side in own.padding]
        if self.same:
            (top, bottom), (left, right) = map(_uneven, shape[2:], own.kernel_size, own.stride, own.dilation)
            around = [bottom, right]
            if (top, left) != (bottom, right) and own.groups == own.in_channels and own.dilation == (1, 1):
                weight = pad(weight, [right - left, 0, bottom - top, 0])  # zeros meet what is padded too much
            elif (top, left) != (bottom, right):
                before, around = [left, right, top, bottom], [0, 0]
        shape = [*shape[:2], shape[2] + sum(before[2:]), shape[3] + sum(before[:2])]
        pack = torch.ops.mkldnn._reorder_convolution_weight
        return pack(weight.detach(), around, own.stride, own.dilation, own.groups, shape), before, around


def _uneven(length: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((-(-length // stride) - 1) * stride + (kernel - 1) * dilation + 1 - length, 0)
    return total // 2, total - total // 2
