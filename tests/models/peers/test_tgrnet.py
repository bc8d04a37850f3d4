"""TGRNet: graph reasoning, second-order prior and triplet term against NumPy in double precision, its size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.models import configure, create_model
from lerenet.models.batch import without_defect
from lerenet.models.losses import bce
from lerenet.models.peers.tgrnet import GraphReasoning, Head, TGRNet, TripletEncoder, second_order
from tests.helpers.equations import Array, array, close, conv1, double, rand, relu
from tests.helpers.networks import CHANNELS, SIZE, batch, episode, support_of
from tests.helpers.peers import classified, dilated, pooled, refined, resized

GRID, WIDTH = 10, 6


def make(**config: float) -> TGRNet:
    torch.manual_seed(1)
    head = create_model(configure("tgrnet", width=WIDTH, side=GRID, **config), CHANNELS, SIZE)
    assert isinstance(head, TGRNet)
    return head.eval()


def normal(query: list[Tensor]) -> Mapping[str, Any]:
    torch.manual_seed(11)
    return {"normal": [torch.randn_like(level) for level in query]}


def node_mixing(layer: torch.nn.Conv1d, nodes: Array) -> Array:
    """1 x 1 over the nodes (n, states)."""
    weight = array(layer.weight)[:, :, 0]
    mixed = weight @ nodes
    return mixed if layer.bias is None else mixed + array(layer.bias)[:, None]


def reasoned(layer: GraphReasoning, x: Array, y: Array) -> Array:
    """R(x; y) of two (c, h, w)."""
    v_x, p_x, v_y, p_y = (
        conv1(c, z).reshape(len(z), -1) for z in (x, y) for c in (layer.state, layer.assign)
    )
    nodes = np.concatenate([(v_x @ p_y.T).T, (v_y @ p_x.T).T])  # (2 c nodes, c states)
    mixed = relu(nodes + node_mixing(layer.mix, nodes))
    over_states = mixed @ array(layer.theta.weight)[:, :, 0].T
    own = node_mixing(layer.reduce, over_states)  # (c nodes, c states)
    reflected = conv1(layer.back, (own.T @ p_y).reshape(y.shape))
    mean, variance, weight, bias = (
        array(z)[:, None, None]
        for z in (layer.norm.running_mean, layer.norm.running_var, layer.norm.weight, layer.norm.bias)
    )
    return y + weight * (reflected - mean) / np.sqrt(variance + 1e-4) + bias


def drifted(layer: GraphReasoning) -> GraphReasoning:
    """Running statistics away from where they start."""
    layer.norm.running_mean.copy_(rand(len(layer.norm.weight)))
    layer.norm.running_var.copy_(rand(len(layer.norm.weight)).abs() * 50 + 5)
    return layer


def to_unit_range(best: Array) -> Array:
    return (best - best.min()) / (best.max() - best.min() + 1e-7)


def prior_by_hand(query: Array, other: Array) -> Array:
    """Second-order prior of two (c, h, w): (h, w) of the query."""
    a, b = query.reshape(len(query), -1), other.reshape(len(other), -1)
    product = a @ b.T
    a, b = product @ a, product @ b
    best = np.array([max(u @ v / np.linalg.norm(u) / np.linalg.norm(v) for v in b.T) for u in a.T])
    return to_unit_range(best).reshape(query.shape[1:])


def encoded(layer: TripletEncoder, levels: list[Array]) -> Array:
    """The pyramid on levels (c_i, h_i, w_i), the finest on the grid already."""
    fine, middle, coarse = (conv1(conv, x) for conv, x in zip(layer.lateral, levels, strict=True))
    middle = middle + resized(coarse, middle.shape[1])
    return dilated(layer.smooth, fine + resized(middle, fine.shape[1]))


def answered(layer: Head, x: Array) -> Array:
    """The head on (c, h, w): two channels."""
    x = x + relu(conv1(layer.first[0], x))
    for pair in layer.pairs:
        x = refined(pair, x)
    first, second, *rest = (branch[0] for branch in layer.aspp.branches)
    average = np.broadcast_to(conv1(first, x.mean((1, 2), keepdims=True)), x.shape)
    x = relu(np.concatenate([average, conv1(second, x), *(dilated(conv, x) for conv in rest)]))
    return classified(layer.classify, relu(conv1(layer.join[0], x)))


def test_graph_reasoning_by_hand() -> None:
    layer = drifted(double(GraphReasoning(5)))
    x, y = rand(1, 5, 4, 4), rand(1, 5, 4, 4)
    close(layer(layer.project(x), layer.project(y), y)[0], reasoned(layer, array(x)[0], array(y)[0]))


@pytest.mark.parametrize("shots", [1, 3])
def test_the_network_by_hand(shots: int) -> None:
    torch.manual_seed(2)
    head = double(make())
    drifted(head.reason)
    support, masks, query = episode(head, batch=1, shots=shots)
    extra = {"normal": [level.double() for level in normal(query)["normal"]]}
    support, query = [level.double() for level in support], [level.double() for level in query]
    masks = masks.double().roll(3, -1)  # soft at its borders on each level
    shares = [pooled(array(masks)[0], level.shape[-1])[:, None] for level in support]
    assert all(0 < (share % 1 > 0).mean() < 1 for share in shares)

    masked = [(array(level)[0] * share).mean(0) for level, share in zip(support, shares, strict=True)]
    x = encoded(head.encoder, [array(level)[0] for level in query])
    others = [encoded(head.encoder, masked), encoded(head.encoder, [array(z)[0] for z in extra["normal"]])]
    near, clean = (answered(head.head, reasoned(head.reason, other, x)) for other in others)
    priors = np.stack([prior_by_hand(x, other) for other in others])
    scale = float(head.scale.detach())
    assert abs(scale) > 0.01

    state = head.encode(support_of(support, masks, extra))
    close(state["support"][0], others[0])
    close(state["normal"][0], others[1])
    expected = near - clean + scale * priors
    two = array(head._output(state, query))[0]
    np.testing.assert_allclose(two, expected, rtol=1e-7, atol=1e-7)
    assert np.abs(near - clean).max() > 0.01
    assert np.abs(expected[1] - expected[0]).max() > 0.01


def test_the_second_order_prior_by_hand_on_the_querys_grid() -> None:
    query, other = rand(2, 3, 4, 4), rand(2, 3, 4, 4)
    found = second_order(query, other)
    assert found.shape == (2, 1, 4, 4)
    for q, o, prior in zip(array(query), array(other), array(found), strict=True):
        np.testing.assert_allclose(prior[0], prior_by_hand(q, o), rtol=1e-6, atol=1e-6)


def test_the_priors_scale_starts_at_zero_and_gets_a_gradient() -> None:
    head = make().train()
    support, masks, query = episode(head)
    assert float(head.scale.detach()) == 0
    head.learn(batch(support, masks, query, masks[:, 0].roll(9, 1), normal(query)), bce).backward()
    assert head.scale.grad is not None
    assert float(head.scale.grad.abs()) > 0


def test_the_triplet_term_by_hand_and_with_a_gradient() -> None:
    head = make()
    with torch.no_grad():
        head.scale.fill_(6)  # defect and background differ: the terms cannot change places
    support, masks, query = episode(head, shots=2)
    extra = normal(query)
    state = head.encode(support_of(support, masks, extra))
    logits = head.decode(state, query)
    plain = bce(logits, masks[:, 0])
    found = head.learn(batch(support, masks, query, masks[:, 0], extra), bce)
    two = head._output(state, query)
    p = torch.sigmoid(two[:, 1] - two[:, 0]).detach().numpy()  # (B, 10, 10)
    assert p.std() > 0.1
    finest = query[0].numpy()
    shares = F.avg_pool2d(masks, SIZE // 10).numpy()  # (B, 2, 10, 10)
    distances = []
    for b in range(2):
        defect = (finest[b] * p[b]).sum((1, 2)) / (p[b].sum() + 5e-4)
        background = (finest[b] * (1 - p[b])).sum((1, 2)) / ((1 - p[b]).sum() + 5e-4)
        own = support[0][b].numpy()  # (2, c, 10, 10)
        mean = (own * shares[b][:, None]).sum((0, 2, 3)) / (shares[b].sum() + 5e-4)
        clean = extra["normal"][0][b].numpy().mean((1, 2))
        length = np.linalg.norm
        distances.append(length(background - clean) / length(clean) + length(defect - mean) / length(mean))
    assert found.item() - plain.item() == pytest.approx(0.2 * np.mean(distances), rel=1e-3)
    (gradient,) = torch.autograd.grad(found - plain, [head.head.classify[3].weight])
    assert float(gradient.abs().max()) > 1e-6  # as released, this is zero


@torch.inference_mode()
def test_output_is_the_difference_of_the_two_answers() -> None:
    head = make()
    support, masks, query = episode(head)
    state = head.encode(support_of(support, masks, normal(query)))
    same = {**state, "normal": state["support"]}
    assert float(head.decode(same, query).abs().max()) < 1e-4
    assert float(head.decode(state, query).abs().max()) > 1e-3


def test_without_a_normal_image_the_support_without_its_defect_stands_in() -> None:
    head = make()
    support, masks, query = episode(head, shots=2)
    expected = head(batch(support, masks, query, extra={"normal": without_defect(support, masks)}))
    assert torch.equal(head(batch(support, masks, query)), expected)
    assert not torch.equal(head(batch(support, masks, query, extra=normal(query))), expected)
    clean = without_defect(support[:1], masks)[0].numpy()
    free = 1 - F.avg_pool2d(masks, SIZE // GRID).numpy()  # (B, 2, 10, 10)
    for b, image in enumerate(support[0].numpy()):  # (2, c, 10, 10)
        means = (image * free[b][:, None]).sum((2, 3)) / free[b].sum((1, 2))[:, None]  # (2, c)
        painted = image * free[b][:, None] + means[:, :, None, None] * (1 - free[b])[:, None]
        np.testing.assert_allclose(clean[b], painted.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(clean[b].mean((1, 2)), means.mean(0), rtol=1e-4, atol=1e-5)


def test_the_triplet_term_pulls_the_means_together() -> None:
    """What is taken for defect becomes the support's defect where the query holds just that."""
    head = make()
    support, masks, query = episode(head)
    state = head.encode(support_of(support, masks, normal(query)))
    finest = torch.where(masks[:, :, ::4, ::4] > 0, state["defect_mean"][:, :, None, None],
                         state["normal_mean"][:, :, None, None])  # fmt: skip
    ideal = torch.where(masks[:, 0, ::4, ::4] > 0, 20.0, -20.0)

    def term(logit: Tensor) -> float:
        head._output = lambda *_: torch.stack([-logit / 2, logit / 2], dim=1)  # type: ignore[method-assign]
        episodes = batch(support, masks, [finest, *query[1:]], masks[:, 0], normal(query))
        return head.learn(episodes, lambda a, b: (a * 0).sum()).item()

    assert term(ideal) < 0.01
    assert term(-ideal) > 0.2


def test_learning_in_bfloat16_and_in_double_precision() -> None:
    head = make()
    support, masks, query = episode(head, shots=2)
    extra = normal(query)
    single = head.learn(batch(support, masks, query, masks[:, 0], extra), bce)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = head.learn(batch(support, masks, query, masks[:, 0], extra), bce)
    assert rough.item() == pytest.approx(single.item(), rel=0.02)
    rough.backward()
    assert all(bool(torch.isfinite(value.grad).all()) for value in head.parameters())
    support, query = [level.double() for level in support], [level.double() for level in query]
    extra = {"normal": [level.double() for level in extra["normal"]]}
    found = head.double().learn(batch(support, masks.double(), query, masks[:, 0].double(), extra), bce)
    assert found.item() == pytest.approx(single.item(), rel=1e-4)


@pytest.mark.parametrize("foreground", [0, 1])
def test_learning_from_masks_without_foreground_or_background(foreground: int) -> None:
    head = make().train()
    support, masks, query = episode(head, shots=2)
    loss = head.learn(batch(support, masks.fill_(foreground), query, masks[:, 0]), bce)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert all(bool(torch.isfinite(value.grad).all()) for value in head.parameters())


def test_dropout_stands_where_it_is_told_to() -> None:
    def rates(**config: float) -> list[float]:
        return [part.p for part in make(**config).modules() if isinstance(part, nn.Dropout2d)]

    assert rates() == [0.5] * 6 + [0.1]  # five branches, what joins them; the classifier
    assert rates(dropout=0.3) == [0.3] * 7


def test_the_last_bias_alone_learns_nothing() -> None:
    """It cancels in the difference of the two answers."""
    head = make().train()
    support, masks, query = episode(head, batch=3, shots=2)
    head.learn(batch(support, masks, query, masks[:, 0].roll(9, 1), normal(query)), bce).backward()
    idle = [name for name, value in head.named_parameters() if float(value.grad.abs().max()) < 1e-7]
    assert idle == ["head.classify.3.bias"]
