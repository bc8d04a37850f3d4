"""Each equation of the paper in double precision against a few independent lines of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lerenet.models import configure
from lerenet.models.descriptors import (
    aligned_cosine,
    centred,
    channel_cosine,
    nearest_mean,
    relate,
    relation_maps,
    split_positions,
    stacked,
    strength,
)
from lerenet.models.lerenet.cbam import CBAM
from lerenet.models.lerenet.gcn import GraphConvolution, NodeMixing, laplacian, smooth
from lerenet.models.lerenet.ifm import IFM
from lerenet.models.lerenet.mpe import MPE, prototype
from lerenet.models.lerenet.mpr import MPR
from lerenet.models.lerenet.paper import PaperLERENet
from lerenet.models.lerenet.relations import RelationReasoning, affinity, edges_of, own_prototypes
from lerenet.models.losses import LOSSES, create_loss
from tests.helpers.equations import Array, array, close, conv1, conv3, double, rand, relu
from tests.helpers.networks import support_of

C, H, W = 6, 3, 4
L = H * W


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def norm_laplacian(adjacency: Array) -> Array:
    own = np.eye(len(adjacency)) + adjacency
    root = np.diag(own.sum(1) ** -0.5)
    return root @ own @ root


# -- graph convolution -----------------------------------------------------------------------------


def test_eq_2_laplacian() -> None:
    adjacency = rand(5, 5).abs()
    adjacency = adjacency + adjacency.T
    close(laplacian(adjacency), norm_laplacian(array(adjacency)))


def test_eq_1_and_3_graph_convolution() -> None:
    layer = double(GraphConvolution(5, 3))
    h = rand(2, 5, 3)
    raw = array(layer.raw)
    reach = norm_laplacian(np.abs(raw + raw.T) / 2)
    expected = np.stack([relu(reach @ one @ array(layer.theta.weight).T) for one in array(h)])
    close(layer(h), expected)


def test_learned_adjacency_is_symmetric_non_negative_and_starts_near_zero() -> None:
    layer = GraphConvolution(64, 8)
    a = layer.adjacency().detach()
    assert torch.equal(a, a.T)
    assert bool((a >= 0).all())
    assert float(a.sum(1).max()) < 0.05
    layer(torch.rand(1, 64, 8)).sum().backward()
    assert float(layer.raw.grad.abs().mean()) > 1e-4  # it can leave its start


def test_node_mixing_is_the_authors_form() -> None:
    layer = double(NodeMixing(5, 3))
    h = rand(1, 5, 3)
    one = array(h)[0]
    expected = relu(one + conv1(layer.nodes, one)) @ array(layer.theta.weight).T
    close(layer(h)[0], expected)


# -- CBAM --------------------------------------------------------------------------------------------


def test_eq_4_and_5_cbam() -> None:
    layer = double(CBAM(C, 2))
    x = rand(1, C, H, W)
    f = array(x)[0]
    hidden = relu(conv1(layer.squeeze, f.mean((1, 2))))
    f = f * sigmoid(conv1(layer.restore, hidden))[:, None, None]
    f = f * sigmoid(conv1(layer.spatial, f))
    close(layer(x)[0], f)


# -- MPR ---------------------------------------------------------------------------------------------


def mpr_by_hand(layer: MPR, x_s: Array, x_q: Array) -> Array:
    """Eq. 7 to 11 for one episode: (c, l) each -> P_main (c, l)."""
    s_v, s_d, q_v, q_d = (conv1(f, x) for x in (x_s, x_q) for f in (layer.f_v, layer.f_d))
    g = np.concatenate([s_d @ q_v.T, q_d @ s_v.T], axis=1)  # eq. 9, 10: (d, 2v)
    if layer.authors:
        nodes = relu(g.T + conv1(layer.gcn.nodes, g.T))
        h = nodes @ array(layer.gcn.theta.weight).T
    else:
        raw = array(layer.gcn.raw)
        reach = norm_laplacian(np.abs(raw + raw.T) / 2)
        h = relu(reach @ (g.T / x_q.shape[1]) @ array(layer.gcn.theta.weight).T)  # eq. 3
    reasoned = conv1(layer.reduce, h)  # (v, d)
    reflected = reasoned.T @ q_v  # G P_q^v, (d, l)
    conv, norm = layer.tau
    scale = array(norm.weight) / np.sqrt(array(norm.running_var) + (1e-4 if layer.authors else 1e-5))
    moved = (conv1(conv, reflected) - array(norm.running_mean)[:, None]) * scale[:, None]
    return x_q + moved + array(norm.bias)[:, None]


@pytest.mark.parametrize("authors", [False, True])
def test_eq_7_to_11_mpr(authors: bool) -> None:
    layer = double(MPR(C, authors))
    x_s, x_q = rand(2, C, L), rand(2, C, H, W)
    found = layer(layer.encode(x_s), x_q)
    for i in range(2):
        expected = mpr_by_hand(layer, array(x_s)[i], array(x_q)[i].reshape(C, L))
        close(found[i].flatten(1), expected)


def test_mpr_starts_as_the_identity() -> None:
    layer, x_q = MPR(C).eval(), torch.randn(1, C, H, W)
    assert torch.equal(layer(layer.encode(torch.randn(1, C, L)), x_q), x_q)


def test_mpr_relates_equal_positions() -> None:
    """Eq. 9 and 10 sum over positions, so only moving support and query together leaves the relations."""
    layer = double(MPR(C))
    x_s, x_q, order = rand(1, C, L), rand(1, C, L, 1), torch.randperm(L)
    still = array(layer(layer.encode(x_s), x_q)[:, :, order])
    close(layer(layer.encode(x_s[:, :, order]), x_q[:, :, order]), still)
    assert not np.allclose(array(layer(layer.encode(x_s), x_q[:, :, order])), still)


# -- MPE ---------------------------------------------------------------------------------------------


def test_eq_12_prototype_is_divided_by_the_masks_area() -> None:
    support, shares = rand(2, C, L), torch.rand(2, L, dtype=torch.float64)
    masked = support * shares[:, None]
    expected = np.stack(
        [np.average(f, axis=1, weights=w) for f, w in zip(array(support), array(shares), strict=True)]
    )
    close(prototype(masked, shares.sum(1)), expected)
    close(prototype(masked, None), array(masked).mean(2))  # `authors`


def test_eq_13_excitation() -> None:
    layer = double(MPE(C))
    proj, query = rand(1, C), rand(1, C, H, W)
    guided = torch.from_numpy(array(proj)[:, :, None, None] * array(query))
    close(layer(proj, query), array(layer.cbam(guided)))


def cosines(a: Array, b: Array) -> Array:
    """Cosine of every column of (c, n) with every column of (c, m): (n, m)."""
    return (a.T @ b) / np.outer(np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0))


def test_eq_14_descriptor_form() -> None:
    query, support = rand(1, C, L), rand(1, C, 2 * L)
    shares = torch.zeros(1, 2, L, dtype=torch.float64)
    shares[0, 0, :5], shares[0, 0, 5], shares[0, 1, 2] = 1.0, 0.3, 0.8
    q, s = array(query)[0], array(support)[0]
    mean = np.concatenate([q, s], axis=1).mean(1, keepdims=True)
    q, s = q - mean, s - mean
    flat = array(shares).reshape(-1)
    d = cosines(q, s)
    near = np.sort(d[:, flat > 0.5], axis=1)[:, -3:].mean(1)
    far = np.sort(d[:, flat == 0], axis=1)[:, -3:].mean(1)
    units = s / np.linalg.norm(s, axis=0)
    like = cosines(q, (units * flat).sum(1, keepdims=True))[:, 0]
    expected = np.stack([near, far, near - far, like])
    close(relation_maps(*centred(query, support), shares)[0], expected)


def test_eq_14_channel_and_aligned_forms() -> None:
    query, support = rand(1, C, L), rand(1, C, L)
    q, s = array(query)[0], array(support)[0]
    close(channel_cosine(query, support)[0], cosines(q.T, s.T))
    close(aligned_cosine(query, support)[0, 0], np.diag(cosines(q, s)))


def test_nearest_mean_with_few_or_no_allowed_positions() -> None:
    similarity = torch.tensor([[[0.1, 0.9, 0.5, -0.3]]])
    some = torch.tensor([[True, True, False, False]])
    assert float(nearest_mean(similarity, some)) == pytest.approx(0.5)
    assert float(nearest_mean(similarity, ~some & False)) == 0.0


def test_a_tiny_defect_still_has_foreground_in_every_shot() -> None:
    shares = torch.tensor([[[0.0, 0.02, 0.01, 0.02], [1.0, 0.0, 0.4, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    foreground, background = split_positions(shares)
    rows = foreground.view(3, 4).tolist()
    assert rows == [[False, True, False, True], [True, False, False, False], [False] * 4]
    assert background.view(3, 4).tolist() == [
        [True, False, False, False],
        [False, True, False, True],
        [True] * 4,
    ]


def test_averaged_shots_are_the_mean_of_one_shot_maps() -> None:
    query, support = rand(2, C, L), rand(2, 3, C, L)
    shares = (torch.rand(2, 3, L, dtype=torch.float64) > 0.7).double()
    found, _ = relate(query, support, shares, concat=False)
    each = [relate(query, support[:, k : k + 1], shares[:, k : k + 1])[0] for k in range(3)]
    close(found, array(torch.stack(each).mean(0)))


@pytest.mark.parametrize("concat", [True, False])
def test_relations_ignore_the_order_of_shots_and_follow_the_query(concat: bool) -> None:
    query, support = rand(2, C, L), rand(2, 3, C, L)
    shares = (torch.rand(2, 3, L, dtype=torch.float64) > 0.7).double()
    maps, own = relate(query, support, shares, concat)
    shuffled, own_2 = relate(query, support[:, [2, 0, 1]], shares[:, [2, 0, 1]], concat)
    close(shuffled, array(maps))
    close(own_2, array(own))
    order = torch.randperm(L)
    close(relate(query[:, :, order], support, shares, concat)[0], array(maps[:, :, order]))


def test_stacked_levels_have_unit_length_each() -> None:
    joined = stacked([rand(1, 2, 3, L), rand(1, 2, 5, L) * 100])
    assert joined.shape == (1, 2, 8, L)
    np.testing.assert_allclose(array(joined[:, :, :3].norm(dim=2)), 1.0)
    np.testing.assert_allclose(array(joined[:, :, 3:].norm(dim=2)), 1.0)


# -- IFM, K shots --------------------------------------------------------------------------------------


@pytest.mark.parametrize("authors", [False, True])
def test_eq_15_fusion(authors: bool) -> None:
    layer = double(IFM(2 * C, C, pairs=2, dropout=0.1, authors=authors))
    parts = [rand(1, C, H, W), rand(1, C, H, W)]
    x = relu(conv1(layer.fuse, np.concatenate([array(part)[0] for part in parts])))
    for pair in layer.residual:
        change = conv3(pair.second, relu(conv3(pair.first, x)))
        x = x + relu(change) if authors else relu(x + change)
    x = conv1(layer.classify[3], relu(conv3(layer.classify[0], x)))
    close(layer(parts)[0, 0], x[1] - x[0] if authors else x[0])


@pytest.mark.parametrize("authors", [False, True])
def test_the_authors_drop_whole_channels(authors: bool) -> None:
    layer = IFM(C, C, pairs=1, dropout=0.5, authors=authors).train()
    kept = layer.classify[2](torch.ones(50, C, H, W)).flatten(2)  # 0 or 2
    whole = (kept == kept[:, :, :1]).all(2)
    assert bool(whole.all()) == authors
    assert kept.unique().tolist() == [0, 2]


def test_eq_16_each_shot_under_its_own_mask() -> None:
    head = PaperLERENet(configure(preset="paper", levels=(1,), width=C, side=4), {1: 5}, 16).double().eval()
    support, masks = rand(1, 3, 5, 4, 4), (torch.rand(1, 3, 16, 16) > 0.5).double()
    found, area = head.masked_support(support_of([support], masks))
    shares = array(masks).reshape(3, 4, 4, 4, 4).mean((2, 4))
    each = [relu(conv1(head.reduce[0], array(support)[0, k])) * shares[k] for k in range(3)]
    close(found[0], np.mean(each, axis=0))
    close(area, np.array([shares.sum((1, 2)).mean()]))


def test_smoothing_is_eq_2_and_3_without_the_matrix() -> None:
    raw, h = rand(2, 9, 9).abs(), rand(2, 9, 4)
    adjacency = raw + raw.transpose(1, 2)
    expected = [norm_laplacian(a) @ x for a, x in zip(array(adjacency), array(h), strict=True)]
    close(smooth(adjacency, h), np.stack(expected))


# -- the default's graph -------------------------------------------------------------------------------


def test_query_graph_is_symmetric_sparse_and_without_loops() -> None:
    descriptors = torch.nn.functional.normalize(rand(1, C, 60), dim=1)
    a = affinity(*edges_of(descriptors.transpose(1, 2) @ descriptors))[0]
    assert torch.equal(a, a.T)
    assert bool((a >= 0).all())
    assert float(a.diagonal().abs().max()) == 0.0
    assert int((a > 0).sum(1).min()) >= 16
    assert int((a > 0).sum()) < 2 * 17 * 60


def test_reasoning_over_relations_follows_a_permutation() -> None:
    layer = double(RelationReasoning(3))
    maps, descriptors = rand(1, 3, 30), torch.nn.functional.normalize(rand(1, C, 30), dim=1)
    order = torch.randperm(30)
    graph = affinity(*edges_of(descriptors.transpose(1, 2) @ descriptors))
    moved = layer(maps[:, :, order], graph[:, order][:, :, order])
    close(moved, array(layer(maps, graph)[:, :, order]))


def test_own_prototypes_against_a_loop() -> None:
    matched, descriptors = rand(3, 40) - 0.3, torch.nn.functional.normalize(rand(3, C, 40), dim=1)
    matched[2] = -matched[2].abs()  # nothing matches: the best place stands for the sure ones
    cosine = descriptors.transpose(1, 2) @ descriptors
    area = torch.tensor([0.1, 0.4, 0.0], dtype=torch.float64)
    found = own_prototypes(matched, cosine, area)
    for d, c, share, row in zip(array(matched), array(cosine), array(area), found, strict=True):
        ranked = np.sort(d)[::-1]
        sure = (d > 0.5 * ranked[:5].mean()) & (d > 0)
        sure = sure if sure.any() else d >= ranked[0]
        now = max(np.float32((d > 0).mean()), np.float32(1 / 40))
        rank = int(min(0.6, 4 * np.sqrt(now * max(share, 0.5 / 40))) * 40)
        rest = d <= ranked[min(max(rank, 1), 39)]
        near, far = (np.mean(np.sort(c[:, kept], axis=1)[:, -3:], axis=1) for kept in (sure, rest))
        close(row, near - far)


def test_strength_is_one_where_the_query_stands_out_like_the_supports_defect() -> None:
    support = torch.zeros(1, 1, 2, 4, dtype=torch.float64)
    support[0, 0, 0, 0] = 8.0  # the defect; the pair's mean is (2, 0)
    query = torch.zeros(1, 2, 4, dtype=torch.float64)
    query[0, 0, 1] = 8.0
    shares = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    close(strength(query, support, shares)[0], np.array([2.0, 6.0, 2.0, 2.0]) / 6.0)


# -- losses --------------------------------------------------------------------------------------------


def test_losses_are_their_formulas() -> None:
    logits, truth = rand(2, 4, 5) * 3, (rand(2, 4, 5) > 0).double()
    p, t = sigmoid(array(logits)), array(truth)
    right = np.where(t == 1, p, 1 - p)
    bce = -np.log(right).mean()
    focal = (np.where(t == 1, 0.25, 0.75) * (1 - right) ** 2 * -np.log(right)).mean()
    dice = np.mean([1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, t, strict=True)])
    expected = {"bce": bce, "focal": focal, "dice": dice, "bce_dice": bce + dice}
    assert {name: float(loss(logits, truth)) for name, loss in LOSSES.items()} == pytest.approx(expected)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_stay_finite_at_the_extremes(name: str) -> None:
    logits = torch.tensor([[[-200.0, 200.0]]], requires_grad=True)
    loss = create_loss(name)(logits, torch.tensor([[[1.0, 0.0]]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert bool(torch.isfinite(logits.grad).all())


def test_unknown_loss_lists_the_known() -> None:
    with pytest.raises(Exception, match="bce, bce_dice, dice, focal"):
        create_loss("hinge")
