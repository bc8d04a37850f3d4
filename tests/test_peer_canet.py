"""CANet: its comparison, history and refinements against NumPy in double precision, its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lerenet.models import create_model
from lerenet.models.base import parameters_of
from lerenet.models.losses import bce
from lerenet.models.peers import canet
from lerenet.models.peers.canet import CANet
from lerenet.params import ModelConfig
from tests.test_models_contract import CHANNELS, SIZE, episode
from tests.test_models_equations import Array, array, conv1, conv3, double, rand, relu
from tests.test_peer_parts import resized

GRID, WIDTH = 9, 8


def make() -> CANet:
    torch.manual_seed(1)
    head = create_model(ModelConfig(name="canet", width=WIDTH, grid=GRID), CHANNELS, SIZE)
    assert isinstance(head, CANet)
    with torch.no_grad():
        for value in head.parameters():  # away from the tiny start
            value += 0.2 * torch.randn_like(value)
    return head.eval()


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(0))
    return e / e.sum(0)


def biased(layer: torch.nn.Conv2d, x: Array) -> Array:
    """3 x 3 with its bias."""
    assert layer.bias is not None
    return conv3(layer, x) + array(layer.bias)[:, None, None]


def one_pass(head: CANet, compared: Array, history: Array) -> Array:
    """One refinement by hand; ASPP and what follows are the head's own, tested with the parts."""
    x = compared
    for i, branch in enumerate(head.residual):
        inputs = np.concatenate([x, history]) if i == 0 else x
        x = x + biased(branch[3], relu(biased(branch[1], relu(inputs))))
    joined = head.aspp(torch.from_numpy(x)[None])[0]
    return conv1(head.classify, relu(conv1(head.join[0], array(joined))))


@pytest.mark.parametrize("shots", [1, 3])
def test_the_network_by_hand(shots: int) -> None:
    head = double(make())
    assert isinstance(head, CANet)
    shapes = [(CHANNELS[level], GRID, GRID) for level in (2, 3)]
    support, query = [rand(1, shots, *shape) for shape in shapes], [rand(1, *shape) for shape in shapes]
    masks = F.interpolate((rand(1, shots, 8, 8) > 0.3).double(), scale_factor=5)

    def middle(levels: list[Array]) -> Array:
        both = np.concatenate(levels)
        return relu(array(head.reduce[0](torch.from_numpy(both)[None]))[0])

    x = middle([array(level)[0] for level in query])
    compared, scores = [], []
    for k in range(shots):
        soft = resized(array(masks)[0, k : k + 1], GRID)[0]
        feature = middle([array(level)[0, k] for level in support])
        prototype = (feature * soft).sum((1, 2)) / (soft.sum() + 0.0005)
        tiled = np.broadcast_to(prototype[:, None, None], x.shape)
        both = torch.from_numpy(np.concatenate([x, tiled]))[None]
        compared.append(relu(array(head.compare[0](both))[0]))
        scores.append(array(head.attend(both)).mean())
    weights = np.exp(scores) / np.exp(scores).sum()
    mixed = sum(w * c for w, c in zip(weights, compared, strict=True))
    two = one_pass(head, mixed, np.zeros((2, GRID, GRID)))
    for _ in range(4):
        two = one_pass(head, mixed, softmax(two))
    expected = F.interpolate(
        torch.from_numpy(two[1] - two[0])[None, None], size=(SIZE, SIZE), mode="bilinear"
    )
    found = head(support, masks, query)
    np.testing.assert_allclose(array(found)[0], array(expected.float())[0, 0], rtol=1e-4, atol=1e-5)


def test_dilation_of_the_comparison_is_two() -> None:
    head = make()
    for layer in (head.reduce[0], head.compare[0]):
        assert layer.dilation == layer.padding == (2, 2)


def test_the_history_changes_the_answer_and_training_has_it_in_three_steps_of_ten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = make()
    support, masks, query = episode(head)
    compared = head._compared(head.encode(support, masks), query)
    first = head._pass(compared, None)
    assert not torch.allclose(first, head._pass(compared, first), atol=1e-4)
    histories: list[bool] = []
    real = CANet._pass

    def watched(self: CANet, x: torch.Tensor, last: torch.Tensor | None) -> torch.Tensor:
        if torch.is_grad_enabled():
            histories.append(last is not None)
        return real(self, x, last)

    monkeypatch.setattr(CANet, "_pass", watched)
    for _ in range(60):
        head.learn(support, masks, query, masks[:, 0], bce)
    assert len(histories) == 60
    assert 8 <= sum(histories) <= 30


def test_a_refinement_less_is_another_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    head = make()
    inputs = episode(head)
    five = head(*inputs)
    monkeypatch.setattr(canet, "REFINEMENTS", 0)
    assert not torch.allclose(five, head(*inputs), atol=1e-4)


def test_learnable_parameters_are_the_measured_ones_and_the_attention_of_k_shots() -> None:
    head = create_model(ModelConfig(name="canet"), {2: 512, 3: 1024}, 200)
    assert isinstance(head, CANet)
    attention = parameters_of(head.attend)
    assert parameters_of(head) - attention == 10_494_466
    assert attention == 512 * 256 * 9 + 256 + 256 * 9 + 1
