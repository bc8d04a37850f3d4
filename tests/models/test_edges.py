"""Logits that follow the picture's edges, against the filter's definition, window by window in double precision."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lerenet.models.refine import EPSILON, RADIUS, follow_edges

Map = NDArray[np.float64]


def _window(maps: Map, row: int, column: int) -> Map:
    top, left = max(0, row - RADIUS), max(0, column - RADIUS)
    return maps[top : row + RADIUS + 1, left : column + RADIUS + 1]


def _defined(values: Map, guide: Map) -> Map:
    """In each window the least-squares line from grey to logit; each pixel: the mean of its windows' lines."""
    slope, offset = np.zeros_like(guide), np.zeros_like(guide)
    for at in np.ndindex(*guide.shape):
        grey, value = _window(guide, *at), _window(values, *at)
        slope[at] = ((grey - grey.mean()) * (value - value.mean())).mean() / (grey.var() + EPSILON)
        offset[at] = value.mean() - slope[at] * grey.mean()
    found = np.zeros_like(guide)
    for at in np.ndindex(*guide.shape):
        found[at] = _window(slope, *at).mean() * guide[at] + _window(offset, *at).mean()
    return found


def test_the_filter_is_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, 20, 16, generator=generator, dtype=torch.float64)
    logits = torch.randn(2, 20, 16, generator=generator, dtype=torch.float64)
    expected = [
        _defined(values.numpy(), picture.mean(0).numpy())
        for values, picture in zip(logits, pictures, strict=True)
    ]
    found = follow_edges(logits, pictures)
    np.testing.assert_allclose(found.numpy(), np.stack(expected), rtol=0, atol=1e-9)
    single = follow_edges(logits.float(), pictures.float())
    assert (single - found).abs().max() < 1e-3


def test_a_blurred_border_moves_to_the_edge_of_the_picture() -> None:
    picture = torch.full((1, 3, 32, 32), 0.4)
    picture[..., 14:] = 0.6
    blurred = (torch.arange(32.0) - 11.5) / 4  # crosses zero between 11 and 12
    marked = follow_edges(blurred.expand(1, 32, 32), picture)[0] > 0
    assert blurred[12] > 0  # bilinear alone would mark it
    assert not marked[:, 12:14].any()
    assert marked[:, 14:].all()


def test_a_flat_picture_has_no_edges_and_a_constant_stays() -> None:
    flat = torch.full((1, 3, 24, 24), 0.5)
    assert follow_edges(torch.full((1, 24, 24), -2.0), torch.rand(1, 3, 24, 24)).allclose(
        torch.tensor(-2.0), atol=1e-4
    )
    logits = torch.randn(1, 24, 24, generator=torch.Generator().manual_seed(1))
    assert follow_edges(logits, flat).var() < logits.var() / 20
