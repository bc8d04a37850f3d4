"""The peers' common parts in numpy."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from lerenet.models.peers.ensemble import (
    BaseEnsemble,
    BaseLearner,
)
from lerenet.models.peers.parts import (
    FEM,
    ResidualPair,
)
from tests.helpers.equations import Array, array, conv1, conv3, double, relu


def pooled(x: Array, size: int) -> Array:
    """(c, h, w) -> (c, size, size): means of windows that may overlap by a cell."""
    h, w = x.shape[1:]
    rows = [slice(i * h // size, -(-(i + 1) * h // size)) for i in range(size)]
    columns = [slice(i * w // size, -(-(i + 1) * w // size)) for i in range(size)]
    return np.array([[[channel[r, c].mean() for c in columns] for r in rows] for channel in x])


def resized(x: Array, size: int) -> Array:
    """(c, h, w) -> (c, size, size), linear along each axis between aligned corners."""
    for axis in (1, 2):
        known = np.arange(x.shape[axis])
        at = np.linspace(0, known[-1], size)
        x = np.apply_along_axis(lambda line, at=at, known=known: np.interp(at, known, line), axis, x)
    return x


def enlarged(x: Array, size: int) -> Array:
    """(c, h, w) -> (c, size, size), linear along each axis between the middles of cells."""
    for axis in (1, 2):
        n = x.shape[axis]
        at = (np.arange(size) + 0.5) * n / size - 0.5
        x = np.apply_along_axis(lambda line, at=at, n=n: np.interp(at, np.arange(n), line), axis, x)
    return x


def picked(x: Array, size: int) -> Array:
    """(h, w) -> (size, size): the nearest pixel, counted from the first."""
    rows, columns = (np.arange(size) * n // size for n in x.shape)
    return x[np.ix_(rows, columns)]


def classified(layer: nn.Sequential, x: Array) -> Array:
    return conv1(layer[3], relu(conv3(layer[0], x)))


def refined(layer: ResidualPair, x: Array) -> Array:
    return x + relu(conv3(layer.body[2], relu(conv3(layer.body[0], x))))


def enriched(layer: FEM, query: Array, guide: Array, maps: Array) -> tuple[Array, list[Array]]:
    """FEM by hand, (c, h, w) each; written from coarse: each bin asks the finer one for its refined map."""

    def at(i: int) -> Array:
        size = layer.bins[i]
        start = np.concatenate([pooled(query, size), pooled(guide, size), resized(maps, size)])
        x = relu(conv1(layer.initial[i][0], start))
        if i:
            finer = resized(at(i - 1), size)
            x = x + relu(conv1(layer.between[i - 1][0], np.concatenate([x, finer])))
        return refined(layer.refine[i], x)

    scales = [at(i) for i in range(len(layer.bins))]
    joined = np.concatenate([resized(x, query.shape[1]) for x in scales])
    side = [classified(head, x) for head, x in zip(layer.side, scales, strict=True)]
    return refined(layer.after, relu(conv1(layer.join[0], joined))), side


def nearest(query: Array, support: Array) -> Array:
    """The prior of (c, h, w) to one masked support (c, h, w), before it is brought to [0, 1]: (h, w)."""
    places = support.reshape(len(support), -1).T
    cosines = [
        (query * s[:, None, None]).sum(0) / (np.linalg.norm(query, axis=0) * np.linalg.norm(s) + 1e-7)
        for s in places
    ]
    return np.max(cosines, axis=0)


def to_unit_range(x: Array) -> Array:
    return (x - x.min()) / (x.max() - x.min() + 1e-7)


def dilated(layer: nn.Conv2d, x: Array) -> Array:
    """A 3 x 3 convolution with dilation and bias, written as sums of shifted copies."""
    step, (h, w) = layer.dilation[0], x.shape[1:]
    padded = np.pad(x, ((0, 0), (step, step), (step, step)))
    out = np.zeros((layer.out_channels, h, w))
    for i in range(3):
        for j in range(3):
            shifted = padded[:, i * step : i * step + h, j * step : j * step + w]
            out += np.einsum("oc,chw->ohw", array(layer.weight)[:, :, i, j], shifted)
    return out + array(layer.bias)[:, None, None]


JUDGED = "ensemble.judge"  # weighs the shots; one shot alone has weight 1 whatever they are


def with_statistics(module: nn.Module) -> nn.Module:
    """In double precision, weights and batch norm statistics drawn anew."""
    module = double(module)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.copy_(torch.randn_like(part.running_mean))
            part.running_var.copy_(torch.rand_like(part.running_var) + 0.5)
    return module


def normed(layer: nn.BatchNorm2d, x: Array) -> Array:
    """Batch norm of (c, h, w) by its running statistics."""
    mean, var, scale, shift = (
        array(v)[:, None, None] for v in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    return (x - mean) / np.sqrt(var + 1e-5) * scale + shift


def softmax(x: Array, axis: int = 0) -> Array:
    raised = np.exp(x - x.max(axis, keepdims=True))
    return raised / raised.sum(axis, keepdims=True)


def known_by_hand(base: BaseLearner, x: Array) -> Array:
    """The base learner's features of one highest level (c, grid, grid)."""
    parts = [x]
    for size, branch in zip((1, 2, 3, 6), base.bins, strict=True):
        parts.append(resized_from(relu(normed(branch[2], conv1(branch[1], pooled(x, size)))), len(x[0])))
    return normed(base.join[1], conv3(base.join[0], np.concatenate(parts)))


def resized_from(x: Array, size: int) -> Array:
    return np.broadcast_to(x, (len(x), size, size)) if x.shape[1] == 1 else resized(x, size)


def gram_by_hand(x: Array) -> Array:
    flat = x.reshape(len(x), -1)
    return np.array([[a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-7) for b in flat] for a in flat])


def weights_by_hand(ensemble: BaseEnsemble, styles: Array) -> Array:
    """Rank the K shots' psi, stretch to 5, two layers, back to K, to the shots' own order, softmax."""
    k, (one, _, two) = len(styles), ensemble.judge
    order = np.argsort(styles)
    five = np.interp(np.linspace(0, k - 1, 5), np.arange(k), styles[order])
    hidden = relu(array(one.weight) @ five + array(one.bias))
    scores = array(two.weight) @ hidden + array(two.bias)
    found = np.empty(k)
    found[order] = np.interp(np.linspace(0, 4, k), np.arange(5), scores)
    return softmax(found)


def ensemble_by_hand(ensemble: BaseEnsemble, meta: Array, style: float, known: Array) -> Array:
    (g0, g1), (e0, e1) = (array(conv.weight).reshape(2) for conv in (ensemble.g, ensemble.e))
    background, foreground = softmax(meta)
    return np.stack([e0 * (g0 * background + g1 * style) + e1 * known, g0 * foreground + g1 * style])
