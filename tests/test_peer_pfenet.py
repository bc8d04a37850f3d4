"""PFENet: the head's contract, its mechanism against NumPy in double precision, its size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from lerenet.models import create_model
from lerenet.models.base import Extra, Segmenter, parameters_of, shots_to_grid
from lerenet.models.losses import bce
from lerenet.models.peers.pfenet import PFENet
from lerenet.params import ModelConfig
from tests.test_models_contract import CHANNELS, SIZE, episode
from tests.test_models_equations import array, close, conv1, double, rand, relu
from tests.test_peer_parts import classified, enriched, nearest, resized, to_unit_range

GRID = 9


def make(size: int = SIZE, **config: float) -> Segmenter:
    """The small head in eval mode."""
    torch.manual_seed(1)
    head = create_model(ModelConfig(name="pfenet", width=8, grid=GRID, **config), CHANNELS, size)
    assert isinstance(head, PFENet)
    return head.eval()


def masked(support: list[Tensor]) -> Extra:
    """Features of other images in the place of those of the blacked-out ones."""
    torch.manual_seed(11)
    return {"masked": [torch.randn_like(level) for level in support]}


# -- the head's contract ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [33, SIZE])
@pytest.mark.parametrize("shots", [1, 5])
@torch.inference_mode()
def test_logits_have_the_images_size(size: int, shots: int) -> None:
    head = make(size)
    logits = head(*episode(head, shots=shots, size=size))
    assert logits.shape == (2, size, size)
    assert bool(torch.isfinite(logits).all())


def test_gradient_reaches_every_weight() -> None:
    head = make().train()
    support, masks, query = episode(head, batch=3, shots=2)
    head.learn(support, masks, query, masks[:, 0], bce).backward()
    for name, value in head.named_parameters():
        assert value.grad is not None, name
        assert bool(torch.isfinite(value.grad).all()), name
        assert float(value.grad.abs().max()) > 0, name


@torch.inference_mode()
def test_same_input_same_output() -> None:
    head = make()
    inputs = episode(head, shots=2)
    assert torch.equal(head(*inputs), head(*inputs))


@torch.inference_mode()
def test_saved_and_loaded_gives_the_same(tmp_path: Path) -> None:
    head, other = make(), create_model(ModelConfig(name="pfenet", width=8, grid=GRID), CHANNELS, SIZE).eval()
    inputs = episode(head)
    assert not torch.equal(head(*inputs), other(*inputs))
    save_file(head.state_dict(), tmp_path / "w.safetensors")
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert torch.equal(head(*inputs), other(*inputs))


@pytest.mark.parametrize("foreground", [0, 1])
def test_masks_without_foreground_or_background(foreground: int) -> None:
    head = make().train()
    support, masks, query = episode(head, shots=2)
    masks.fill_(foreground)
    loss = head.learn(support, masks, query, masks[:, 0], bce)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert all(bool(torch.isfinite(value.grad).all()) for value in head.parameters())
    with torch.inference_mode():
        assert bool(torch.isfinite(head.eval()(support, masks, query)).all())


@pytest.mark.parametrize("shots", [1, 3])
@torch.inference_mode()
def test_an_enrolled_class_serves_any_number_of_queries(shots: int) -> None:
    head = make()
    support, masks, _ = episode(head, batch=1, shots=shots)
    _, _, queries = episode(head, batch=3, seed=7)
    state = head.encode(support, masks)
    assert all(isinstance(value, Tensor) for value in state.values())
    together = head.decode(state, queries)
    alone = torch.cat([head(support, masks, [level[i : i + 1] for level in queries]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-6)
    assert float((together[0] - together[1]).abs().max()) > 1e-3


@torch.inference_mode()
def test_bfloat16_is_close_to_single_precision() -> None:
    head = make()
    inputs = episode(head)
    exact = head(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = head(*inputs)
    assert rough.dtype == torch.float32
    assert float((exact - rough).abs().mean()) <= 0.03 * float(exact.abs().mean()) + 0.01


def test_double_precision() -> None:
    head = make()
    support, masks, query = episode(head, shots=2)
    single = head.learn(support, masks, query, masks[:, 0], bce)
    support, query = [level.double() for level in support], [level.double() for level in query]
    found = head.double().learn(support, masks.double(), query, masks[:, 0], bce)
    assert found.item() == pytest.approx(single.item(), rel=1e-4)


def test_overfits_one_episode() -> None:
    head = make(dropout=0.0).train()
    support, masks, query = episode(head)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = head.learn(support, masks, query, masks[:, 0], bce)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2, losses[::10]


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

    state = head.encode(support, masks, extra)
    close(state["prototype"][0], np.mean(prototypes, axis=0))
    two, bins = head._outputs(state, query)
    np.testing.assert_allclose(array(two)[0], classified(head.classify, merged), rtol=1e-5, atol=1e-6)
    for found, expected in zip(bins, side, strict=True):
        np.testing.assert_allclose(array(found)[0], expected, rtol=1e-5, atol=1e-6)


def test_the_loss_is_cross_entropy_and_the_mean_over_the_bins() -> None:
    head = make()
    support, masks, query = episode(head)
    two, side = head._outputs(head.encode(support, masks), query)
    assert [x.shape[-1] for x in side] == [9, 5, 3, 2]

    def entropy(x: Tensor) -> float:
        large = F.interpolate(x, size=SIZE, mode="bilinear", align_corners=False)
        return F.cross_entropy(large, masks[:, 0].long()).item()

    expected = entropy(two) + np.mean([entropy(x) for x in side])
    assert head.learn(support, masks, query, masks[:, 0], bce).item() == pytest.approx(expected, rel=1e-5)


@torch.inference_mode()
def test_the_prior_comes_from_the_last_level_of_the_blacked_out_support() -> None:
    head = make()
    support, masks, query = episode(head, shots=2)
    extra = masked(support)
    with_extra = head(support, masks, query, extra)
    other = {"masked": [*(level + 1 for level in extra["masked"][:2]), extra["masked"][2]]}
    assert torch.equal(head(support, masks, query, other), with_extra)
    own = [*support[:2], support[2] + 1]
    assert torch.equal(head(own, masks, query, extra), with_extra)
    assert not torch.equal(head(support, masks, query), with_extra)


@torch.inference_mode()
def test_without_the_blacked_out_support_its_own_highest_level_stands_in() -> None:
    head = make()
    support, masks, query = episode(head)
    expected = head(support, masks, query, {"masked": support})
    assert torch.equal(head(support, masks, query), expected)
    assert torch.equal(head(support, masks, query, {}), expected)
    high = head.encode(support, masks)["high"]
    shares = resized(masks[0].numpy(), GRID)[0]
    whole = shots_to_grid(support[2], GRID)[0, 0].numpy()
    np.testing.assert_allclose(high[0, 0].numpy(), whole * shares, atol=1e-5)


def test_other_levels() -> None:
    for levels in ((1, 2), (3,), (1, 2, 3, 4)):
        head = create_model(ModelConfig(name="pfenet", levels=levels, width=8, grid=5), CHANNELS, SIZE)
        assert head(*episode(head)).shape == (2, SIZE, SIZE)


def test_learnable_parameters_are_the_measured_ones() -> None:
    head = create_model(ModelConfig(name="pfenet"), {2: 512, 3: 1024, 4: 2048}, 200)
    assert (head.levels, head.grid, head.fem.bins) == ((2, 3, 4), 25, (25, 13, 7, 4))
    assert parameters_of(head) == 10_817_034
