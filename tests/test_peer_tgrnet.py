"""TGRNet: graph reasoning, second-order prior and triplet term against NumPy in double precision, its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lerenet.models import create_model
from lerenet.models.base import Extra, without_defect
from lerenet.models.losses import bce
from lerenet.models.peers.tgrnet import GraphReasoning, TGRNet, second_order
from lerenet.params import ModelConfig
from tests.test_models_contract import CHANNELS, SIZE, episode
from tests.test_models_equations import Array, array, close, conv1, double, rand, relu

GRID, WIDTH = 10, 6


def make() -> TGRNet:
    torch.manual_seed(1)
    head = create_model(ModelConfig(name="tgrnet", width=WIDTH, grid=GRID), CHANNELS, SIZE)
    assert isinstance(head, TGRNet)
    return head.eval()


def normal(query: list[Tensor]) -> Extra:
    torch.manual_seed(11)
    return {"normal": [torch.randn_like(level) for level in query]}


def node_mixing(layer: torch.nn.Conv1d, nodes: Array) -> Array:
    """1 x 1 over the nodes (n, states)."""
    weight = array(layer.weight)[:, :, 0]
    mixed = weight @ nodes
    return mixed if layer.bias is None else mixed + array(layer.bias)[:, None]


def test_graph_reasoning_by_hand() -> None:
    layer = double(GraphReasoning(5)).eval()
    assert isinstance(layer, GraphReasoning)
    x, y = rand(1, 5, 4, 4), rand(1, 5, 4, 4)
    state, assign = (lambda v, c=c: conv1(c, array(v)[0]).reshape(5, -1) for c in (layer.state, layer.assign))
    nodes = np.concatenate([(state(x) @ assign(y).T).T, (state(y) @ assign(x).T).T])  # (10 nodes, 5 states)
    mixed = relu(nodes + node_mixing(layer.mix, nodes))
    over_states = mixed @ array(layer.theta.weight)[:, :, 0].T
    reasoned = node_mixing(layer.reduce, over_states)  # (5 nodes, 5 states)
    reflected = conv1(layer.back, (reasoned.T @ assign(y)).reshape(5, 4, 4))
    norm = layer.norm
    scale = array(norm.weight) / np.sqrt(array(norm.running_var) + 1e-4)
    expected = array(y)[0] + scale[:, None, None] * (reflected - array(norm.running_mean)[:, None, None])
    expected = expected + array(norm.bias)[:, None, None]
    close(layer(layer.project(x), layer.project(y), y)[0], expected)


def test_the_second_order_prior_by_hand_on_the_querys_grid() -> None:
    query, other = rand(2, 3, 4, 4), rand(2, 3, 4, 4)
    found = second_order(query, other)
    assert found.shape == (2, 1, 4, 4)
    for q, o, prior in zip(array(query), array(other), array(found), strict=True):
        a, b = q.reshape(3, -1), o.reshape(3, -1)
        product = a @ b.T
        a, b = product @ a, product @ b
        best = np.array([max(u @ v / np.linalg.norm(u) / np.linalg.norm(v) for v in b.T) for u in a.T])
        expected = (best - best.min()) / (best.max() - best.min() + 1e-7)
        np.testing.assert_allclose(prior.ravel(), expected, rtol=1e-6, atol=1e-6)


def test_the_priors_scale_starts_at_zero_and_gets_a_gradient() -> None:
    head = make().train()
    support, masks, query = episode(head)
    assert float(head.scale.detach()) == 0
    head.learn(support, masks, query, masks[:, 0].roll(9, 1), bce, normal(query)).backward()
    assert head.scale.grad is not None
    assert float(head.scale.grad.abs()) > 0


def test_the_triplet_term_by_hand_and_with_a_gradient() -> None:
    head = make()
    support, masks, query = episode(head, shots=2)
    extra = normal(query)
    state = head.encode(support, masks, extra)
    logits = head.decode(state, query)
    plain = bce(logits, masks[:, 0])
    found = head.learn(support, masks, query, masks[:, 0], bce, extra)
    two = head._output(state, query)
    p = torch.sigmoid(two[:, 1] - two[:, 0]).detach().numpy()  # (B, 10, 10)
    finest = query[0].numpy()
    shares = F.avg_pool2d(masks, SIZE // 10).numpy()  # (B, 2, 10, 10)
    distances = []
    for b in range(2):
        defect = (finest[b] * p[b]).sum((1, 2)) / (p[b].sum() + 5e-4)
        background = (finest[b] * (1 - p[b])).sum((1, 2)) / ((1 - p[b]).sum() + 5e-4)
        own = support[0][b].numpy()  # (2, c, 10, 10)
        mean = (own * shares[b][:, None]).sum((0, 2, 3)) / (shares[b].sum() + 5e-4)
        clean = extra["normal"][0][b].numpy().mean((1, 2))
        distances.append(np.linalg.norm(background - clean) + np.linalg.norm(defect - mean))
    assert found.item() - plain.item() == pytest.approx(0.2 * np.mean(distances), rel=1e-3)
    (gradient,) = torch.autograd.grad(found - plain, [head.head.classify[3].weight])
    assert float(gradient.abs().max()) > 1e-6  # as released, this is zero


@torch.inference_mode()
def test_output_is_the_difference_of_the_two_answers() -> None:
    head = make()
    support, masks, query = episode(head)
    state = head.encode(support, masks, normal(query))
    same = {**state, "normal": state["support"]}
    assert float(head.decode(same, query).abs().max()) < 1e-4
    assert float(head.decode(state, query).abs().max()) > 1e-3


def test_without_a_normal_image_the_support_without_its_defect_stands_in() -> None:
    head = make()
    support, masks, query = episode(head, shots=2)
    expected = head(support, masks, query, {"normal": without_defect(support, masks)})
    assert torch.equal(head(support, masks, query), expected)
    assert not torch.equal(head(support, masks, query, normal(query)), expected)
    clean = without_defect(support[:1], masks)[0]
    shares = F.avg_pool2d(masks, SIZE // 10)[:, :, None]
    torch.testing.assert_close(clean, (support[0] * (1 - shares)).mean(1))
