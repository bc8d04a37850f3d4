"""What the peers share, in double precision against a few independent lines of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.models.peers.parts import (
    ASPP,
    EPS,
    FEM,
    Middle,
    ResidualPair,
    bins_of,
    classifier,
    difference,
    masked_average,
    merge,
    reduce,
    tile,
)
from lerenet.models.peers.similar import prior
from tests.helpers.equations import array, close, conv1, double, rand, relu
from tests.helpers.peers import classified, dilated, enriched, nearest, pooled, refined, to_unit_range


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# -- masked average, prior -------------------------------------------------------------------------------


def test_masked_average() -> None:
    feature, mask = rand(2, 3, 4, 5), torch.rand(2, 4, 5, dtype=torch.float64)
    f, m = array(feature), array(mask)
    expected = [[(f[n, c] * m[n]).sum() / (m[n].sum() + 0.0005) for c in range(3)] for n in range(2)]
    close(masked_average(feature, mask), np.array(expected))
    assert EPS == 0.0005
    assert not masked_average(feature, mask * 0).any()


def test_a_tiled_prototype_stands_at_every_place() -> None:
    prototype = rand(2, 3)
    tiled = tile(prototype, rand(2, 7, 4, 5))
    assert tiled.shape == (2, 3, 4, 5)
    assert all(torch.equal(tiled[:, :, i, j], prototype) for i in range(4) for j in range(5))


@pytest.mark.parametrize("normalise", [True, False])
def test_prior(normalise: bool) -> None:
    query, support = rand(2, 6, 3, 4), rand(2, 3, 6, 3, 4)
    support[:, :, :, 0] = 0  # masked out: a cosine of 0, not nothing
    found = prior(query, support, normalise)
    for b in range(2):
        maps = [nearest(array(query)[b], array(support)[b, k]) for k in range(3)]
        expected = np.mean([to_unit_range(x) if normalise else x for x in maps], axis=0)
        # the small constants stand in different places
        np.testing.assert_allclose(array(found[b, 0]), expected, rtol=0, atol=2e-7)
    assert found.dtype == torch.float64
    assert float(found.flatten(1).std(1).min()) > 0.05


def test_prior_ranges_over_the_unit_interval_and_has_no_gradient() -> None:
    found = prior(rand(2, 6, 5, 5).requires_grad_(), rand(2, 1, 6, 5, 5).requires_grad_())
    assert found.flatten(1).amin(1).tolist() == [0.0, 0.0]
    np.testing.assert_allclose(array(found.flatten(1).amax(1)), 1.0, atol=1e-6)
    assert not found.requires_grad


def test_prior_of_an_empty_support_is_zero() -> None:
    assert not prior(rand(1, 6, 5, 5), torch.zeros(1, 2, 6, 5, 5, dtype=torch.float64)).any()


def test_prior_keeps_its_precision_under_autocast() -> None:
    query, support = rand(1, 64, 7, 7).float(), rand(1, 1, 64, 7, 7).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = prior(query, support)
    assert torch.equal(found, prior(query, support))


# -- convolutions ----------------------------------------------------------------------------------------


def test_aspp() -> None:
    layer, x = double(ASPP(3, 2)), rand(2, 3, 20, 21)  # so large that dilation 18 reaches a neighbour
    found = layer(x)
    assert found.shape == (2, 10, 20, 21)
    convs = [branch[0] for branch in layer.branches]
    assert [conv.dilation[0] for conv in convs[2:]] == [6, 12, 18]
    for one, out in zip(array(x), found, strict=True):
        average = np.broadcast_to(conv1(convs[0], one.mean((1, 2), keepdims=True)), (2, 20, 21))
        maps = [average, conv1(convs[1], one), *(dilated(conv, one) for conv in convs[2:])]
        close(out, relu(np.concatenate(maps)))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_aspp_drops_whole_maps_in_training(rate: float) -> None:
    layer, x = ASPP(3, 40, rate), rand(1, 3, 5, 5).float()
    with torch.no_grad():
        for branch in layer.branches:
            branch[0].weight.zero_()
            branch[0].bias.fill_(1)
    maps = layer.train()(x)[0].flatten(1)  # (200, 25)
    assert bool((maps == maps[:, :1]).all())
    share = float((maps[:, 0] == 0).float().mean())
    assert (0.35 < share < 0.65) if rate else (share == 0)
    assert bool((layer.eval()(x) == 1).all())


def test_residual_pair_merge_and_classifier() -> None:
    x = rand(1, 4, 5, 6)
    pair, joined, head = double(ResidualPair(4)), double(merge(4, 3)), double(classifier(4, 2))
    close(pair(x)[0], refined(pair, array(x)[0]))
    close(joined(x)[0], relu(conv1(joined[0], array(x)[0])))
    close(head(x)[0], classified(head, array(x)[0]))
    assert [layer.bias is None for layer in (pair.body[0], joined[0], head[0], head[3])] == [True] * 3 + [
        False
    ]


@pytest.mark.parametrize("relus", [True, False])
def test_middle_features(relus: bool) -> None:
    layer = double(Middle(5, 4, relu=relus))
    levels = [rand(2, 2, 6, 6), rand(2, 3, 3, 3)]
    found = layer(levels, 3)
    for b in range(2):
        joined = np.concatenate([pooled(array(levels[0])[b], 3), array(levels[1])[b]])
        expected = conv1(layer.reduce[0], joined)
        close(found[b], relu(expected) if relus else expected)
    assert len(reduce(5, 4, relu=relus)) == 2 + relus


def test_two_channel_entropy_is_binary_entropy_of_the_difference() -> None:
    two, truth = rand(3, 2, 4, 4) * 3, (rand(3, 4, 4) > 0).double()
    binary = F.binary_cross_entropy_with_logits(difference(two)[:, 0], truth)
    close(binary, array(F.cross_entropy(two, truth.long())))


# -- feature enrichment ----------------------------------------------------------------------------------


def test_bins_of_the_grid() -> None:
    assert bins_of(25) == (25, 13, 7, 4)
    assert bins_of(60) == (60, 30, 15, 8)
    assert bins_of(5) == (5, 3, 2, 1)


def inputs(grid: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    return rand(2, 3, grid, grid), rand(2, 3, grid, grid), rand(2, 1, grid, grid)


def test_feature_enrichment() -> None:
    layer, given = double(FEM(7, bins_of(7), 4)), inputs()
    merged, side = layer(*given)
    assert [x.shape for x in side] == [(2, 2, size, size) for size in (7, 4, 2, 1)]
    for b in range(2):
        expected, outputs = enriched(layer, *(array(x)[b] for x in given))
        close(merged[b], expected)
        for i in range(4):
            close(side[i][b], outputs[i])


def test_fine_bins_guide_coarse_ones_and_never_the_reverse() -> None:
    layer, given = double(FEM(7, bins_of(7), 4)), inputs()
    before = layer(*given)[1]
    for i in range(4):
        changed = double(FEM(7, bins_of(7), 4))
        changed.load_state_dict(layer.state_dict())
        with torch.no_grad():
            changed.initial[i][0].weight.mul_(2)
        after = changed(*given)[1]
        assert [not torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [
            j >= i for j in range(4)
        ]


def test_dropout_of_the_side_outputs_can_be_set() -> None:
    rates = {part.p for part in FEM(7, (4, 2), 4, 0.3).modules() if isinstance(part, nn.Dropout2d)}
    assert rates == {0.3}
    assert {part.p for part in FEM(7, (4, 2), 4).modules() if isinstance(part, nn.Dropout2d)} == {0.1}
