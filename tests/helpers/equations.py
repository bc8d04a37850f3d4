"""Layers in numpy, in double precision: what the tests compute the paper's equations with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def double(module: nn.Module) -> nn.Module:
    """In double precision, with every weight drawn anew, so that nothing is zero by its start."""
    module = module.double().eval()
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.randn_like(value) * 0.3)
    return module


def array(value: Tensor) -> Array:
    return value.detach().numpy()


def close(value: Tensor, expected: Array) -> None:
    np.testing.assert_allclose(array(value), expected, rtol=1e-9, atol=1e-11)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def conv1(layer: nn.Module, x: Array) -> Array:
    """A kernel-1 convolution of (c, ...) by its weights."""
    weight = array(layer.weight).reshape(layer.weight.shape[0], -1)
    out = np.tensordot(weight, x, 1)
    return out if layer.bias is None else out + array(layer.bias).reshape(-1, *[1] * (x.ndim - 1))


def conv3(layer: nn.Conv2d, x: Array) -> Array:
    """A 3 x 3 convolution of (c, h, w), padded with zeros, without a bias."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    h, w = x.shape[1:]
    weight = array(layer.weight)
    return sum(
        np.tensordot(weight[:, :, i, j], padded[:, i : i + h, j : j + w], 1)
        for i in range(3)
        for j in range(3)
    )
