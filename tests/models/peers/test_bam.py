"""BAM and the base learner: the head's contract, the mechanism against NumPy in double precision, its size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lerenet.models import configure, create_model
from lerenet.models.losses import bce
from lerenet.models.peers.bam import BAM
from lerenet.models.peers.ensemble import (
    SLOTS,
    BaseEnsemble,
    BaseLearner,
    base_probability,
    gram,
    psi,
)
from lerenet.models.segmenter import shots_to_grid
from tests.helpers.equations import array, close, conv1, double, rand, relu
from tests.helpers.networks import CHANNELS, SIZE, batch, episode, stays_finite, support_of
from tests.helpers.peers import (
    JUDGED,
    classified,
    dilated,
    ensemble_by_hand,
    gram_by_hand,
    known_by_hand,
    nearest,
    refined,
    resized,
    softmax,
    to_unit_range,
    weights_by_hand,
    with_statistics,
)

GRID = 7


def make(size: int = SIZE, moved: bool = False, **config: float) -> BAM:
    """The small head in eval mode; ``moved``: the ensemble away from its start, none of its units dead."""
    torch.manual_seed(1)
    head = create_model(configure("bam", width=8, side=GRID, **config), CHANNELS, size)
    assert isinstance(head, BAM)
    if moved:
        with torch.no_grad():
            for value in head.ensemble.parameters():
                value.copy_(torch.rand_like(value) + 0.1)
    return head.eval()


# -- the head's contract ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 2, 5])
def test_gradient_reaches_every_weight_but_the_base_learners(shots: int) -> None:
    head = make(moved=True).train()
    support, masks, query = episode(head, batch=3, shots=shots)
    head.learn(batch(support, masks, query, masks[:, 0], {"slot": torch.tensor([1, 2, 3])}), bce).backward()
    for name, value in head.named_parameters():
        if name.startswith("base."):
            assert value.grad is None, name
            assert not value.requires_grad, name
            continue
        assert value.grad is not None, name
        assert bool(torch.isfinite(value.grad).all()), name
        if shots > 1 or not name.startswith(JUDGED):
            assert float(value.grad.abs().max()) > 0, name
        else:
            assert float(value.grad.abs().max()) == 0, name


@pytest.mark.parametrize("foreground", [0, 1])
def test_masks_without_foreground_or_background(foreground: int) -> None:
    head = make(moved=True).train()
    support, masks, query = episode(head, shots=2)
    masks.fill_(foreground)
    stays_finite(head, support, masks, query)


def test_other_levels() -> None:
    for levels in ((1, 2), (3,), (1, 2, 3, 4)):
        head = create_model(configure("bam", levels=levels, width=8, side=5), CHANNELS, SIZE)
        assert head.train()(batch(*episode(head, shots=2))).shape == (2, SIZE, SIZE)


# -- the base learner ------------------------------------------------------------------------------------


def test_base_learner_by_hand() -> None:
    base, level = with_statistics(BaseLearner(5, GRID, 3)), rand(2, 5, GRID, GRID)
    logits = base(level)
    assert logits.shape == (2, SLOTS, GRID, GRID)
    for b in range(2):
        known = known_by_hand(base, array(level)[b])
        assert known.min() < 0  # no ReLU yet
        close(base.features(level)[b], known)
        close(logits[b], conv1(base.classify[2], relu(known)))


def test_base_learner_brings_any_level_to_its_grid() -> None:
    base, level = BaseLearner(5, GRID, 3).eval(), torch.randn(2, 5, 3, 3)
    grown = F.interpolate(level, size=GRID, mode="bilinear", align_corners=False)
    assert torch.equal(base(level), base(grown))


def test_base_learner_learns_classes_also_from_a_single_image() -> None:
    torch.manual_seed(0)
    base = BaseLearner(6, GRID, 4).train()
    labels = torch.zeros(4, GRID, GRID, dtype=torch.long)
    for i in range(4):
        labels[i, 2:6, 2:6] = i  # the first is clean
    colours = torch.randn(4, 6)
    level = colours[labels].permute(0, 3, 1, 2) + 0.1 * torch.randn(4, 6, GRID, GRID)
    optimizer = torch.optim.AdamW(base.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(base(level), labels).backward()
        optimizer.step()
    assert all(value.grad is not None for value in base.parameters())
    base(level[:1]).sum().backward()  # one value a channel in bin 1
    assert float((base.eval()(level).argmax(1) == labels).float().mean()) > 0.9


def test_base_learner_is_frozen_until_asked() -> None:
    head = make()
    before = {name: value.clone() for name, value in head.base.state_dict().items()}
    for part in (head.train(), nn.ModuleDict({"head": head}).train()):
        assert part.training
        assert head.query_middle.training
        assert not any(module.training for module in head.base.modules())
    support, masks, query = episode(head)
    head.learn(batch(support, masks, query, masks[:, 0]), bce).backward()
    assert all(torch.equal(value, before[name]) for name, value in head.base.state_dict().items())
    head.base.requires_grad_(True)
    head.base.train()(query[-1]).mean().backward()
    assert all(value.grad is not None for value in head.base.parameters())
    assert not torch.equal(head.base.join[1].running_mean, before["join.1.running_mean"])
    head.train()
    assert not head.base.training


def test_base_probability_leaves_out_the_episodes_class() -> None:
    logits = rand(3, SLOTS, 2, 2)
    chance = softmax(array(logits), 1)
    close(base_probability(logits)[:, 0], chance[:, 1:].sum(1))
    slot = torch.tensor([1, 7, 15])
    expected = [one[1:].sum(0) - one[left] for one, left in zip(chance, slot, strict=True)]
    close(base_probability(logits, slot)[:, 0], np.stack(expected))


def test_the_current_class_is_left_out_in_learning_and_counts_in_decoding() -> None:
    head = make(moved=True)
    support, masks, query = episode(head)
    with torch.no_grad():
        head.base.classify[2].weight.zero_()
        head.base.classify[2].bias.fill_(-50.0)[4] = 50.0  # it is sure of class 4 everywhere

    def value(extra: Mapping[str, Any] | None) -> float:
        return head.learn(batch(support, masks, query, masks[:, 0], extra), bce).item()

    own = value({"slot": torch.tensor([4, 4])})
    other = value({"slot": torch.tensor([3, 3])})
    assert own != pytest.approx(other, abs=1e-3)
    assert other == pytest.approx(value(None), abs=1e-6)
    assert own != pytest.approx(value({"slot": torch.tensor([4, 3])}), abs=1e-3)  # by episode
    enrolled = head.encode(support_of(support, masks, {"slot": torch.tensor([4, 4])}))
    assert torch.equal(head.decode(enrolled, query), head(batch(support, masks, query)))
    with torch.no_grad():
        head.ensemble.e.weight[:, 1] = 0  # what the base learner says no longer counts
    assert own == pytest.approx(value(None), abs=1e-6)


# -- psi, the ensemble -----------------------------------------------------------------------------------


def test_psi_by_hand() -> None:
    query, support = rand(2, 5, 3, 4), rand(2, 3, 5, 3, 4)
    found = psi(gram(query), gram(support.flatten(0, 1)).unflatten(0, (2, 3)))
    for b in range(2):
        own = gram_by_hand(array(query)[b])
        others = [gram_by_hand(array(support)[b, k]) for k in range(3)]
        close(found[b], np.array([np.sqrt(((own - one) ** 2).sum()) / 5 for one in others]))
    assert found.min() > 0.1
    assert psi(gram(query), gram(query * 3)[:, None]).max() < 1e-6  # not of brightness
    assert not gram(torch.zeros(1, 5, 3, 3)).any()


def test_gram_keeps_its_precision_and_has_no_gradient() -> None:
    feature = torch.randn(1, 6, 5, 5, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gram(feature)
    assert torch.equal(found, gram(feature))
    assert not found.requires_grad


def test_ensemble_by_hand() -> None:
    ensemble = double(BaseEnsemble())
    meta, style, known = rand(2, 2, 3, 3), rand(2), torch.rand(2, 1, 3, 3, dtype=torch.float64)
    found = ensemble(meta, style, known)
    for b in range(2):
        expected = ensemble_by_hand(ensemble, array(meta)[b], float(style[b]), array(known)[b, 0])
        close(found[b], expected)


def test_ensemble_starts_as_the_meta_answer_and_equal_shots() -> None:
    ensemble, meta = BaseEnsemble(), torch.randn(2, 2, 3, 3)
    assert torch.allclose(ensemble(meta, torch.rand(2), torch.rand(2, 1, 3, 3)), meta.softmax(1))
    assert torch.equal(ensemble.weigh(torch.rand(2, 5)), torch.full((2, 5), 0.2))


@pytest.mark.parametrize("shots", [1, 2, 3, 5, 8])
def test_weights_of_the_shots_by_hand(shots: int) -> None:
    torch.manual_seed(3)
    ensemble, styles = double(BaseEnsemble()), torch.rand(4, shots, dtype=torch.float64)
    with torch.no_grad():
        ensemble.judge[0].weight.abs_()  # alive
    found = ensemble.weigh(styles).detach()
    for b in range(4):
        close(found[b], weights_by_hand(ensemble, array(styles)[b]))
    if shots > 1:
        assert float((found - 1 / shots).abs().max()) > 1e-3
    order = torch.randperm(shots)
    close(ensemble.weigh(styles[:, order]), array(found[:, order]))


# -- the network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 3, 5])
def test_the_network_by_hand(shots: int) -> None:
    head = with_statistics(make())
    with torch.no_grad():
        head.ensemble.judge[0].weight.abs_()
    shapes = [(CHANNELS[level], GRID, GRID) for level in (2, 3, 4)]
    support, query = [rand(1, shots, *shape) for shape in shapes], [rand(1, *shape) for shape in shapes]
    extra = {"masked": [rand(1, shots, *shape) for shape in shapes]}
    masks = F.interpolate((rand(1, shots, 8, 8) > 0.3).double(), scale_factor=5)
    q = [array(level)[0] for level in query]
    prototypes, near, styles = [], [], []
    for k in range(shots):
        soft = resized(array(masks)[0, k : k + 1], GRID)[0]
        s = [array(level)[0, k] for level in support]
        feature = relu(conv1(head.support_middle.reduce[0], np.concatenate(s[:2])))
        prototypes.append((feature * soft).sum((1, 2)) / (soft.sum() + 0.0005))
        near.append(to_unit_range(nearest(q[2], array(extra["masked"][2])[0, k] * soft)))
        styles.append(np.linalg.norm(gram_by_hand(q[0]) - gram_by_hand(s[0])) / len(s[0]))
    weights = weights_by_hand(head.ensemble, np.array(styles))
    guide = np.broadcast_to((weights @ np.stack(prototypes))[:, None, None], (8, GRID, GRID))
    x = relu(conv1(head.query_middle.reduce[0], np.concatenate(q[:2])))
    x = relu(conv1(head.merge[0], np.concatenate([x, guide, np.tensordot(weights, near, 1)[None]])))
    convs = [branch[0] for branch in head.aspp.branches]
    average = np.broadcast_to(conv1(convs[0], x.mean((1, 2), keepdims=True)), x.shape)
    x = relu(np.concatenate([average, conv1(convs[1], x), *(dilated(conv, x) for conv in convs[2:])]))
    meta = classified(head.classify, refined(head.after, relu(conv1(head.join[0], x))))
    chance = softmax(conv1(head.base.classify[2], relu(known_by_hand(head.base, q[2]))))
    own = chance[6]

    state = head.encode(support_of(support, masks, extra))
    final, found, _ = head._outputs(state, query)
    left_out, _, _ = head._outputs(state, query, torch.tensor([6]))
    np.testing.assert_allclose(array(found)[0], meta, rtol=1e-5, atol=1e-6)
    style = float(weights @ np.array(styles))
    for two, known in ((final, chance[1:].sum(0)), (left_out, chance[1:].sum(0) - own)):
        expected = ensemble_by_hand(head.ensemble, meta, style, known)
        np.testing.assert_allclose(array(two)[0], expected, rtol=1e-5, atol=1e-6)


def test_the_loss_is_cross_entropy_of_the_ensemble_and_of_the_meta_output() -> None:
    head = make(moved=True)
    support, masks, query = episode(head)
    slot = torch.tensor([2, 9])
    final, meta, maps = head._outputs(head.encode(support_of(support, masks)), query, slot)
    assert maps == []
    expected = 0.0
    for two in (final, meta):
        large = F.interpolate(two, size=SIZE, mode="bilinear", align_corners=False)
        expected += F.cross_entropy(large, masks[:, 0].long()).item()
    found = head.learn(batch(support, masks, query, masks[:, 0], {"slot": slot}), bce).item()
    assert found == pytest.approx(expected, rel=1e-5)


@torch.inference_mode()
def test_the_prior_comes_from_the_last_level_of_the_blacked_out_support() -> None:
    head = make()
    support, masks, query = episode(head, shots=2)
    extra = {"masked": [torch.randn_like(level) for level in support]}
    with_extra = head(batch(support, masks, query, extra=extra))
    other = {"masked": [*(level + 1 for level in extra["masked"][:2]), extra["masked"][2]]}
    assert torch.equal(head(batch(support, masks, query, extra=other)), with_extra)
    assert torch.equal(head(batch([*support[:2], support[2] + 1], masks, query, extra=extra)), with_extra)
    assert not torch.equal(head(batch(support, masks, query)), with_extra)
    assert torch.equal(
        head(batch(support, masks, query, extra={"masked": support})), head(batch(support, masks, query))
    )
    shares = resized(masks[0].numpy(), GRID)
    whole = shots_to_grid(support[2], GRID)[0].numpy()
    high = head.encode(support_of(support, masks))["like"][0].numpy()
    np.testing.assert_allclose(high, whole * shares[:, None], atol=1e-5)
