"""CANet: its comparison, history and refinements against NumPy in double precision, its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lerenet.models import configure, create_model
from lerenet.models.losses import bce
from lerenet.models.peers import canet
from lerenet.models.peers.canet import CANet
from lerenet.models.segmenter import parameters_of
from tests.helpers.equations import Array, array, close, conv1, double, rand, relu
from tests.helpers.networks import CHANNELS, SIZE, batch, episode, stays_finite, support_of
from tests.helpers.peers import dilated, resized

GRID, WIDTH = 9, 8


def make() -> CANet:
    torch.manual_seed(1)
    head = create_model(configure("canet", width=WIDTH, side=GRID), CHANNELS, SIZE)
    assert isinstance(head, CANet)
    with torch.no_grad():
        for value in head.parameters():  # away from the tiny start
            value += 0.2 * torch.randn_like(value)
    return head.eval()


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(0))
    return e / e.sum(0)


def aspp(layer: torch.nn.Module, x: Array) -> Array:
    average = conv1(layer.branches[0][0], x.mean((1, 2), keepdims=True))
    maps = [np.broadcast_to(average, (len(average), *x.shape[1:])), conv1(layer.branches[1][0], x)]
    return relu(np.concatenate([*maps, *(dilated(branch[0], x) for branch in layer.branches[2:])]))


def one_pass(head: CANet, compared: Array, history: Array) -> Array:
    """One refinement by hand: (2, h, w)."""
    x = compared
    for i, branch in enumerate(head.residual):
        inputs = np.concatenate([x, history]) if i == 0 else x
        x = x + dilated(branch[3], relu(dilated(branch[1], relu(inputs))))
    return conv1(head.classify, relu(conv1(head.join[0], aspp(head.aspp, x))))


def score(head: CANet, both: Array) -> float:
    """A shot's weight before the softmax: 3 x 3, the maximum of each 3 x 3 block, 3 x 3, the mean."""
    x = dilated(head.attend[0], both)
    blocks = x.reshape(len(x), GRID // 3, 3, GRID // 3, 3).max((2, 4))
    return float(dilated(head.attend[2], blocks).mean())


@pytest.mark.parametrize("shots", [1, 3])
def test_the_network_by_hand(shots: int) -> None:
    head = double(make())
    assert isinstance(head, CANet)
    shapes = [(CHANNELS[level], GRID, GRID) for level in (2, 3)]
    support, query = [rand(1, shots, *shape) for shape in shapes], [rand(1, *shape) for shape in shapes]
    masks = F.interpolate((rand(1, shots, 8, 8) > 0.3).double(), scale_factor=5)

    def middle(levels: list[Array]) -> Array:
        return relu(dilated(head.reduce[0], np.concatenate(levels)))

    x = middle([array(level)[0] for level in query])
    compared, scores = [], []
    for k in range(shots):
        soft = resized(array(masks)[0, k : k + 1], GRID)[0]
        feature = middle([array(level)[0, k] for level in support])
        prototype = (feature * soft).sum((1, 2)) / (soft.sum() + 0.0005)
        both = np.concatenate([x, np.broadcast_to(prototype[:, None, None], x.shape)])
        compared.append(relu(dilated(head.compare[0], both)))
        scores.append(score(head, both))
    mixed = sum(w * c for w, c in zip(softmax(np.array(scores)), compared, strict=True))
    found = head._compared(head.encode(support_of(support, masks)), query)
    close(found[0], mixed)

    two, last = one_pass(head, mixed, np.zeros((2, GRID, GRID))), head._pass(found, None)
    close(last[0], two)
    for _ in range(4):
        two, last = one_pass(head, mixed, softmax(two)), head._pass(found, last)
        close(last[0], two)
    large = F.interpolate(torch.from_numpy(two[None, 1:] - two[None, :1]), size=SIZE, mode="bilinear")
    np.testing.assert_allclose(
        array(head(batch(support, masks, query)))[0], array(large)[0, 0], rtol=1e-4, atol=1e-5
    )


def test_dilation_of_the_comparison_is_two() -> None:
    head = make()
    for layer in (head.reduce[0], head.compare[0]):
        assert layer.dilation == layer.padding == (2, 2)


@pytest.mark.parametrize(("draw", "recalled"), [(0.0, True), (0.299, True), (0.301, False), (0.999, False)])
def test_training_has_its_own_first_pass_as_history_in_three_steps_of_ten(
    draw: float, recalled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = make()
    support, masks, query = episode(head)
    monkeypatch.setattr(torch, "rand", lambda *_: torch.tensor(draw))
    found = head.learn(batch(support, masks, query, masks[:, 0]), bce)
    gradient = torch.autograd.grad(found, head.classify.weight)[0]

    def loss(detach: bool) -> torch.Tensor:
        """Two-channel cross entropy, with a gradient through the history or without."""
        compared = head._compared(head.encode(support_of(support, masks)), query)
        first = head._pass(compared, None)
        two = head._pass(compared, first.detach() if detach else first) if recalled else first
        large = F.interpolate(two, size=SIZE, mode="bilinear", align_corners=False)
        return F.cross_entropy(large, masks[:, 0].long())

    stopped, through = (torch.autograd.grad(loss(x), head.classify.weight)[0] for x in (True, False))
    assert found.item() == pytest.approx(loss(True).item(), rel=1e-5)
    assert torch.allclose(gradient, stopped, rtol=1e-4, atol=1e-6)
    assert torch.allclose(stopped, through, rtol=1e-3, atol=1e-5) != recalled  # a history's would show


def test_gradient_reaches_all_but_the_attention_s_biases() -> None:
    """Each adds the same to every shot's score, so the softmax cancels it: float noise is all they get."""
    head = double(make())
    support, masks, query = episode(head, batch=3, shots=2)
    support, query = [level.double() for level in support], [level.double() for level in query]
    head.learn(batch(support, masks.double(), query, masks[:, 0]), bce).backward()
    idle = {k for k, v in head.named_parameters() if v.grad is None or float(v.grad.abs().max()) < 1e-12}
    assert idle == {"attend.0.bias", "attend.2.bias"}


@pytest.mark.parametrize("foreground", [0, 1])
def test_masks_without_foreground_or_background(foreground: int) -> None:
    head = make().train()
    support, masks, query = episode(head, shots=2)
    masks.fill_(foreground)
    stays_finite(head, support, masks, query)


def test_a_refinement_less_is_another_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    head = make()
    inputs = episode(head)
    five = head(batch(*inputs))
    monkeypatch.setattr(canet, "REFINEMENTS", 0)
    assert not torch.allclose(five, head(batch(*inputs)), atol=1e-4)


def test_learnable_parameters_are_the_measured_ones_and_the_attention_of_k_shots() -> None:
    head = create_model(configure("canet"), {2: 512, 3: 1024}, 200)
    assert isinstance(head, CANet)
    attention = parameters_of(head.attend)
    assert parameters_of(head) - attention == 10_494_466
    assert attention == 512 * 256 * 9 + 256 + 256 * 9 + 1
