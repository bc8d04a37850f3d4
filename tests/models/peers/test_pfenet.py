"""PFENet: the head's contract, its mechanism against NumPy in double precision, its size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lerenet.models import configure, create_model
from lerenet.models.losses import bce
from lerenet.models.peers.pfenet import PFENet
from lerenet.models.segmenter import Segmenter, shots_to_grid
from tests.helpers.equations import array, close, conv1, double, rand, relu
from tests.helpers.networks import CHANNELS, SIZE, batch, episode, stays_finite, support_of
from tests.helpers.peers import classified, enriched, nearest, resized, to_unit_range

GRID = 9


def make(size: int = SIZE, **config: float) -> Segmenter:
    """The small head in eval mode."""
    torch.manual_seed(1)
    head = create_model(configure("pfenet", width=8, side=GRID, **config), CHANNELS, size)
    assert isinstance(head, PFENet)
    return head.eval()


def masked(support: list[Tensor]) -> Mapping[str, Any]:
    """Features of other images in the place of those of the blacked-out ones."""
    torch.manual_seed(11)
    return {"masked": [torch.randn_like(level) for level in support]}


# -- the head's contract ---------------------------------------------------------------------------------


@pytest.mark.parametrize("foreground", [0, 1])
def test_masks_without_foreground_or_background(foreground: int) -> None:
    head = make().train()
    support, masks, query = episode(head, shots=2)
    masks.fill_(foreground)
    stays_finite(head, support, masks, query)


def test_double_precision() -> None:
    head = make()
    support, masks, query = episode(head, shots=2)
    single = head.learn(batch(support, masks, query, masks[:, 0]), bce)
    support, query = [level.double() for level in support], [level.double() for level in query]
    found = head.double().learn(batch(support, masks.double(), query, masks[:, 0]), bce)
    assert found.item() == pytest.approx(single.item(), rel=1e-4)


# -- its mechanism ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 3])
def test_the_network_by_hand(shots: int) -> None:
    head = double(make())
    shapes = [(CHANNELS[level], GRID, GRID) for level in (2, 3, 4)]
    support, query = [rand(1, shots, *shape) for shape in shapes], [rand(1, *shape) for shape in shapes]
    extra = {"masked": [rand(1, shots, *shape) for shape in shapes]}
    masks = torch.nn.functional.interpolate((rand(1, shots, 8, 8) > 0.3).double(), scale_factor=5)
    prototypes, priors = [], []
    for k in range(shots):
        soft = resized(array(masks)[0, k : k + 1], GRID)[0]
        both = np.concatenate([array(level)[0, k] for level in support[:2]])
        feature = relu(conv1(head.support_middle.reduce[0], both))
        prototypes.append((feature * soft).sum((1, 2)) / (soft.sum() + 0.0005))
        priors.append(to_unit_range(nearest(array(query[2])[0], array(extra["masked"][2])[0, k] * soft)))
    x = relu(conv1(head.query_middle.reduce[0], np.concatenate([array(level)[0] for level in query[:2]])))
    guide = np.broadcast_to(np.mean(prototypes, axis=0)[:, None, None], (8, GRID, GRID))
    merged, side = enriched(head.fem, x, guide, np.mean(priors, axis=0)[None])

    state = head.encode(support_of(support, masks, extra))
    close(state["prototype"][0], np.mean(prototypes, axis=0))
    two, bins = head._outputs(state, query)
    np.testing.assert_allclose(array(two)[0], classified(head.classify, merged), rtol=1e-5, atol=1e-6)
    for found, expected in zip(bins, side, strict=True):
        np.testing.assert_allclose(array(found)[0], expected, rtol=1e-5, atol=1e-6)


def test_the_loss_is_cross_entropy_and_the_mean_over_the_bins() -> None:
    head = make()
    support, masks, query = episode(head)
    two, side = head._outputs(head.encode(support_of(support, masks)), query)
    assert [x.shape[-1] for x in side] == [9, 5, 3, 2]

    def entropy(x: Tensor) -> float:
        large = F.interpolate(x, size=SIZE, mode="bilinear", align_corners=False)
        return F.cross_entropy(large, masks[:, 0].long()).item()

    expected = entropy(two) + np.mean([entropy(x) for x in side])
    assert head.learn(batch(support, masks, query, masks[:, 0]), bce).item() == pytest.approx(
        expected, rel=1e-5
    )


@torch.inference_mode()
def test_the_prior_comes_from_the_last_level_of_the_blacked_out_support() -> None:
    head = make()
    support, masks, query = episode(head, shots=2)
    extra = masked(support)
    with_extra = head(batch(support, masks, query, extra=extra))
    other = {"masked": [*(level + 1 for level in extra["masked"][:2]), extra["masked"][2]]}
    assert torch.equal(head(batch(support, masks, query, extra=other)), with_extra)
    own = [*support[:2], support[2] + 1]
    assert torch.equal(head(batch(own, masks, query, extra=extra)), with_extra)
    assert not torch.equal(head(batch(support, masks, query)), with_extra)


@torch.inference_mode()
def test_without_the_blacked_out_support_its_own_highest_level_stands_in() -> None:
    head = make()
    support, masks, query = episode(head)
    expected = head(batch(support, masks, query, extra={"masked": support}))
    assert torch.equal(head(batch(support, masks, query)), expected)
    assert torch.equal(head(batch(support, masks, query, extra={})), expected)
    high = head.encode(support_of(support, masks))["like"]
    shares = resized(masks[0].numpy(), GRID)[0]
    whole = shots_to_grid(support[2], GRID)[0, 0].numpy()
    np.testing.assert_allclose(high[0, 0].numpy(), whole * shares, atol=1e-5)


def test_other_levels() -> None:
    for levels in ((1, 2), (3,), (1, 2, 3, 4)):
        head = create_model(configure("pfenet", levels=levels, width=8, side=5), CHANNELS, SIZE)
        assert head(batch(*episode(head))).shape == (2, SIZE, SIZE)
