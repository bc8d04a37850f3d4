"""A frozen backbone with fewer operations: batch normalisation folded into the convolutions before it."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lerenet.models.backbones.factory import Backbone

TOLERANCE = 1e-3  # relative to the largest value; rounding gives about 1e-6


@torch.no_grad()
def fuse_batchnorm(backbone: Backbone, side: int) -> Backbone:
    """The same features for prediction, from fewer operations.

    With running mean m, variance v, scale g and shift s of the normalisation, a convolution (w, b) before it
    becomes w g / sqrt(v + eps), (b - m) g / sqrt(v + eps) + s. Convolution and normalisation belong together
    when they stand side by side in one module. Whether they do is seen on a picture of noise: where the features
    change, all stays as it was.

    Args:
        backbone: In eval mode, on the CPU; left as it is.
        side: Of the pictures that it is for, in pixels.

    Returns:
        A copy with channels-last weights, whose state has other names; or ``backbone`` itself, where nothing can
        be folded.
    """
    folded = copy.deepcopy(backbone)
    pairs = [
        (module, name, convolution, norm)
        for module in folded.modules()
        for (_, convolution), (name, norm) in pairwise(list(module.named_children()))
        if isinstance(convolution, nn.Conv2d)
        and isinstance(norm, nn.BatchNorm2d)
        and norm.track_running_stats
    ]
    for module, name, convolution, norm in pairs:
        _absorb(convolution, norm)
        setattr(module, name, getattr(norm, "act", nn.Identity()))  # timm's holds the activation
    folded.to(memory_format=torch.channels_last)
    noise = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    return folded if pairs and all(map(_close, folded(noise), backbone(noise))) else backbone


def _absorb(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= TOLERANCE * other.abs().max())
