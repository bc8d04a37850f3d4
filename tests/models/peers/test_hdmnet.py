"""HDMNet: the head's contract, encoder, matching and distillation against NumPy in double precision, its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.models import configure, create_model
from lerenet.models.losses import bce
from lerenet.models.peers.hdmnet import HDMNet, distillation
from lerenet.models.peers.transformer import Attending, Block, DenseMatching, EncoderStage
from lerenet.models.segmenter import shots_to_grid
from tests.helpers.equations import Array, array, close, conv1, double, rand, relu
from tests.helpers.networks import CHANNELS, SIZE, batch, episode, support_of
from tests.helpers.peers import (
    JUDGED,
    enlarged,
    ensemble_by_hand,
    gram_by_hand,
    known_by_hand,
    nearest,
    normed,
    picked,
    pooled,
    resized,
    softmax,
    weights_by_hand,
    with_statistics,
)

GRID = 9  # stages of 9, 5 and 3
SIDES = (9, 5, 3)


def make(size: int = SIZE, moved: bool = False, width: int = 16, **config: float) -> HDMNet:
    """The small head in eval mode; ``moved``: the ensemble away from its start, none of its units dead."""
    torch.manual_seed(1)
    head = create_model(configure("hdmnet", width=width, side=GRID, **config), CHANNELS, size)
    assert isinstance(head, HDMNet)
    if moved:
        with torch.no_grad():
            for value in head.ensemble.parameters():
                value.copy_(torch.rand_like(value) + 0.1)
    return head.eval()


# -- by hand: maps are (c, h, w), tokens (l, c) ----------------------------------------------------------


def convolved(layer: nn.Conv2d, x: Array) -> Array:
    """Any convolution: for each output place the sum over its window."""
    (k, _), step, pad = layer.kernel_size, layer.stride[0], layer.padding[0]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    side, weight = (x.shape[1] - k) // step + 1, array(layer.weight)
    out = np.zeros((layer.out_channels, side, side))
    for i in range(side):
        for j in range(side):
            window = x[:, i * step : i * step + k, j * step : j * step + k]
            alone = layer.groups > 1  # depthwise
            out[:, i, j] = (weight[:, 0] * window).sum((1, 2)) if alone else np.tensordot(weight, window, 3)
    return out if layer.bias is None else out + array(layer.bias)[:, None, None]


def layer_normed(layer: nn.LayerNorm, x: Array) -> Array:
    centred = x - x.mean(1, keepdims=True)
    unit = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-6)
    return unit * array(layer.weight) + array(layer.bias)


def projected(layer: nn.Linear, x: Array) -> Array:
    assert layer.bias is None
    return x @ array(layer.weight).T


def flat(x: Array) -> Array:
    return x.reshape(len(x), -1).T


def square(x: Array) -> Array:
    side = round(len(x) ** 0.5)
    return x.T.reshape(-1, side, side)


def closed(block: Attending, x: Array, heads: list[Array]) -> Array:
    """The two residuals."""
    x = x + projected(block.o, np.concatenate(heads, axis=1))
    hidden = convolved(block.ffn[1], convolved(block.ffn[0], square(layer_normed(block.between, x))))
    hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    return x + flat(convolved(block.ffn[4], hidden))


def block_by_hand(block: Block, x: Array) -> Array:
    own = layer_normed(block.before, x)
    seen = own
    if isinstance(block.coarser, nn.Conv2d):
        seen = layer_normed(block.norm, flat(convolved(block.coarser, square(own))))
    q, k, v = projected(block.q, own), projected(block.k, seen), projected(block.v, seen)
    heads, size = [], q.shape[1] // block.heads
    for start in range(0, q.shape[1], size):
        part = slice(start, start + size)
        heads.append(softmax(q[:, part] @ k[:, part].T / np.sqrt(size), axis=1) @ v[:, part])
    return closed(block, x, heads)


def stage_by_hand(stage: EncoderStage, x: Array) -> Array:
    start, *blocks, end = stage.body
    x = layer_normed(start, flat(convolved(stage.embed, x)))
    for block in blocks:
        x = block_by_hand(block, x)
    return square(layer_normed(end, x))


def matched_by_hand(layer: DenseMatching, x: Array, support: Array, inside: Array) -> tuple[Array, Array]:
    """Tokens of query and support -> matched tokens, correlation map."""
    own, other = layer_normed(layer.before, x), layer_normed(layer.before, support)
    q, k, v = projected(layer.q, own), projected(layer.k, other), projected(layer.v, other)
    heads, maps, size = [], [], q.shape[1] // 2
    for start in (0, size):
        a, b = q[:, start : start + size], k[:, start : start + size]
        cosine = a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
        attention = softmax(cosine / 0.1, axis=0)  # of each support place over the query's places
        attention[:, ~inside] = 0
        heads.append(attention @ v[:, start : start + size])
        maps.append(cosine[:, inside].mean(1) / 0.1)
    return closed(layer, x, heads), np.mean(maps, axis=0)


def linear_by_hand(layers: nn.Sequential, x: Array) -> Array:
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            x = convolved(layer, x)
        else:
            x = normed(layer, x) if isinstance(layer, nn.BatchNorm2d) else relu(x)
    return x


def inside_by_hand(mask: Array, side: int) -> Array:
    """Cells more than half defect, or the fullest of a mask (H, W) with some: (side^2,)."""
    shares = pooled(mask[None], side)[0].reshape(-1)
    return shares > 0.5 if (shares > 0.5).any() else (shares == shares.max()) & (shares > 0)


# -- the head's contract ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 2, 5])
def test_gradient_reaches_every_weight_but_the_base_learners(shots: int) -> None:
    """The bias before a batch norm is taken out again by its mean; there are 11 such, all in the decoder."""
    head = make(moved=True).train()
    support, masks, query = episode(head, batch=3, shots=shots)
    head.learn(batch(support, masks, query, masks[:, 0], {"slot": torch.tensor([1, 2, 3])}), bce).backward()
    idle = [f"parse.{i}.{j}.bias" for i in range(3) for j in (0, 2, 4)] + [
        "classify.0.bias",
        "classify.2.bias",
    ]
    for name, value in head.named_parameters():
        if name.startswith("base."):
            assert value.grad is None, name
            assert not value.requires_grad, name
            continue
        assert value.grad is not None, name
        assert bool(torch.isfinite(value.grad).all()), name
        largest = float(value.grad.abs().max())
        if name in idle:
            assert largest < 1e-5, name
        elif shots == 1 and name.startswith(JUDGED):
            assert largest == 0, name
        else:
            assert largest > 0, name


@pytest.mark.parametrize("foreground", [0, 1])
def test_masks_without_foreground_or_background(foreground: int) -> None:
    head = make(moved=True).train()
    support, masks, query = episode(head, shots=2)
    masks.fill_(foreground)
    extra = {"masked": [level * foreground for level in support]}
    for given in (None, extra):
        head.zero_grad()
        loss = head.learn(batch(support, masks, query, masks[:, 0], given), bce)
        loss.backward()
        assert bool(torch.isfinite(loss))
        learnt = [value for value in head.parameters() if value.requires_grad]
        assert max(float(value.grad.abs().max()) for value in learnt) < 1e3
        with torch.inference_mode():
            assert bool(torch.isfinite(head(batch(support, masks, query, extra=given))).all())


@torch.inference_mode()
def test_other_levels_and_widths() -> None:
    for levels in ((1, 2), (3,), (1, 2, 3, 4)):
        for width in (3, 8):
            config = configure("hdmnet", levels=levels, width=width, side=3)
            head = create_model(config, CHANNELS, SIZE)
            assert head(batch(*episode(head, shots=2))).shape == (2, SIZE, SIZE)


# -- the encoder, the matching ---------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "heads", "rate"), [(1, 2, 4), (3, 4, 2), (3, 8, 1)])
def test_a_stage_by_hand(kernel: int, heads: int, rate: int) -> None:
    stage, x = double(EncoderStage(8, kernel, heads, rate, 0.1)), rand(2, 9, 9, 8)
    found = stage(x)
    side = 9 if kernel == 1 else 5
    assert found.shape == (2, side, side, 8)
    for b in range(2):
        close(found[b].permute(2, 0, 1), stage_by_hand(stage, array(x)[b].transpose(2, 0, 1)))


def test_matching_by_hand() -> None:
    torch.manual_seed(5)
    layer, x, support = double(DenseMatching(8, 2, 0.1)), rand(2, 4, 4, 8), rand(2, 3, 3, 8)
    inside = torch.rand(2, 9) > 0.5
    found, maps = layer(x, *layer.keys(support), inside)
    for b in range(2):
        own, other = array(x)[b].reshape(16, 8), array(support)[b].reshape(9, 8)
        expected, map_ = matched_by_hand(layer, own, other, array(inside)[b])
        close(found[b].flatten(0, 1), expected)
        close(maps[b].flatten(), map_)


def test_every_foreground_place_of_the_support_gives_itself_away_once() -> None:
    """The softmax is over the query's places, so the sum of what they take is the sum of the values."""
    layer, x, support = double(DenseMatching(8, 2, 0.1)), rand(1, 4, 4, 8), rand(1, 3, 3, 8)
    taken: list[Tensor] = []
    layer.close = lambda x, given: taken.append(given) or x  # type: ignore[method-assign]
    keys, values = layer.keys(support)
    inside = torch.tensor([[True, False, True, True, False, False, False, True, False]])
    layer(x, keys, values, inside)
    close(taken[0].sum(2), array(values[:, :, inside[0]].sum(2)))


def test_the_background_of_the_support_does_not_count() -> None:
    layer, x, support = double(DenseMatching(8, 2, 0.1)), rand(1, 4, 4, 8), rand(1, 3, 3, 8)
    inside = torch.zeros(1, 9, dtype=torch.bool)
    inside[0, 4] = True
    before = layer(x, *layer.keys(support), inside)
    support[0, 0] = 7.0
    after = layer(x, *layer.keys(support), inside)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    support[0, 1, 1] = torch.arange(8.0)
    assert not torch.allclose(before[0], layer(x, *layer.keys(support), inside)[0])
    nothing, empty = layer(x, *layer.keys(support), inside & False)
    assert not empty.any()
    assert bool(torch.isfinite(nothing).all())


# -- the distillation ------------------------------------------------------------------------------------


def test_distillation_by_hand() -> None:
    maps = [rand(2, 1, side, side) for side in SIDES]
    truth = torch.zeros(2, SIZE, SIZE, dtype=torch.float64)
    truth[0, 3:30, 10:35] = 1
    truth[1, 17, 23] = 1  # one pixel
    total = 0.0
    for b in range(2):
        inside = inside_by_hand(array(truth)[b], 3)
        teacher = inside / inside.sum()
        for i in (2, 1, 0):
            student = softmax(array(maps[i])[b].reshape(-1))
            real = teacher > 0
            total += (teacher[real] * np.log(teacher[real] / student[real])).sum()
            teacher = softmax(enlarged(array(maps[i])[b], SIDES[i - 1]).reshape(-1)) if i else teacher
    close(distillation(maps, truth), np.array(total / 2 / 3))


def test_each_map_learns_from_the_next_coarser_and_teaches_without_gradient() -> None:
    truth = (torch.rand(1, SIZE, SIZE) > 0.5).double()
    alike = [rand(1, 1, side, side) for side in SIDES]
    alone = []
    for changed in range(3):
        maps = [one.clone().requires_grad_() for one in alike]
        distillation(maps, truth).backward()
        before = [one.grad.clone() for one in maps]
        maps = [one.clone() for one in alike]
        maps[changed] = maps[changed] + rand(*maps[changed].shape)
        maps = [one.requires_grad_() for one in maps]
        distillation(maps, truth).backward()
        alone.append([not torch.equal(a, one.grad) for a, one in zip(before, maps, strict=True)])
    # a map's gradient depends on itself and on the next coarser, never on a finer one
    assert alone == [[True, False, False], [True, True, False], [False, True, True]]


def test_maps_that_show_the_mask_lose_nothing() -> None:
    truth = torch.zeros(1, 27, 27)
    truth[:, 9:18, 9:18] = 1  # the middle cell of 3 x 3
    coarse = torch.full((1, 1, 3, 3), -1e4)
    coarse[0, 0, 1, 1] = 0
    finer = [F.interpolate(coarse, size=5, mode="bilinear")]
    finer = [F.interpolate(finer[0], size=9, mode="bilinear"), *finer]
    assert distillation([*finer, coarse], truth).item() == pytest.approx(0, abs=1e-6)
    assert distillation([*finer, -coarse], truth).item() > 100
    assert bool(torch.isfinite(distillation([*finer, coarse], truth * 0)))


# -- the network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 3])
def test_the_network_by_hand(shots: int) -> None:
    head = with_statistics(make())
    with torch.no_grad():
        head.ensemble.judge[0].weight.abs_()
    shapes = [(CHANNELS[level], GRID, GRID) for level in (2, 3, 4)]
    support, query = [rand(1, shots, *shape) for shape in shapes], [rand(1, *shape) for shape in shapes]
    extra = {"masked": [rand(1, shots, *shape) for shape in shapes]}
    masks = F.interpolate((rand(1, shots, 4, 4) > 0.3).double(), scale_factor=10)
    q = [array(level)[0] for level in query]
    s = [[array(level)[0, k] for level in extra["masked"]] for k in range(shots)]
    soft = [resized(array(masks)[0, k : k + 1], GRID)[0] for k in range(shots)]
    known = known_by_hand(head.base, q[2])
    features = [relu(conv1(head.support_middle.reduce[0], np.concatenate(one[:2]))) for one in s]
    means = [(f * m).sum((1, 2)) / (m.sum() + 0.0005) for f, m in zip(features, soft, strict=True)]
    *own_guides, guide = (
        np.broadcast_to(one[:, None, None], (16, GRID, GRID)) for one in (*means, np.mean(means, axis=0))
    )
    hard = [picked(array(masks)[0, k], GRID) for k in range(shots)]
    assert all((m != h).any() for m, h in zip(soft, hard, strict=True))
    alike = [
        np.mean([nearest(own, other * m) for other, m in zip(others, hard, strict=True)], axis=0)
        for own, others in (
            (known, [known_by_hand(head.base, one[2]) for one in s]),
            (q[2], [one[2] for one in s]),
        )
    ]
    styles = [np.linalg.norm(gram_by_hand(q[0]) - gram_by_hand(one[0])) / len(q[0]) for one in s]
    x = relu(conv1(head.query_middle.reduce[0], np.concatenate(q[:2])))
    x = relu(conv1(head.query_merge[0], np.concatenate([x, guide, 10 * np.stack(alike)])))
    ys = [
        relu(conv1(head.support_merge[0], np.concatenate(both)))
        for both in zip(features, own_guides, strict=True)
    ]
    fused, expected = [], []
    for stage, matching, fuse, side in zip(head.stages, head.matching, head.fuse, SIDES, strict=True):
        x, ys = stage_by_hand(stage, x), [stage_by_hand(stage, y) for y in ys]
        inside = np.concatenate([inside_by_hand(array(masks)[0, k], side) for k in range(shots)])
        matched, one = matched_by_hand(matching, flat(x), np.concatenate([flat(y) for y in ys]), inside)
        joined = np.concatenate([square(matched), resized(np.stack(alike), side)])
        fused.append(linear_by_hand(fuse, joined))
        expected.append(one)
    out = linear_by_hand(head.parse[2], fused[2])
    for i in (1, 0):
        up = enlarged(out, SIDES[i])
        out = up + linear_by_hand(head.parse[i], fused[i] + up)
    meta = linear_by_hand(head.classify, out)

    final, found, maps = head._outputs(
        head.encode(support_of(support, masks, extra)), query, torch.tensor([6])
    )
    for one, other in zip(maps, expected, strict=True):
        np.testing.assert_allclose(array(one).reshape(-1), other, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(array(found)[0], meta, rtol=1e-5, atol=1e-5)
    chance = softmax(conv1(head.base.classify[2], relu(known)))
    weighed = float(weights_by_hand(head.ensemble, np.array(styles)) @ styles)
    both = ensemble_by_hand(head.ensemble, meta, weighed, chance[1:].sum(0) - chance[6])
    np.testing.assert_allclose(array(final)[0], both, rtol=1e-5, atol=1e-5)


def test_the_loss_is_two_cross_entropies_and_the_distillation() -> None:
    head = make(moved=True)
    support, masks, query = episode(head)
    slot = torch.tensor([2, 9])
    final, meta, maps = head._outputs(head.encode(support_of(support, masks)), query, slot)
    assert [one.shape for one in maps] == [(2, 1, side, side) for side in SIDES]
    expected = distillation(maps, masks[:, 0]).item()
    assert expected > 0.01
    for two in (final, meta):
        large = F.interpolate(two, size=SIZE, mode="bilinear", align_corners=False)
        expected += F.cross_entropy(large, masks[:, 0].long()).item()
    found = head.learn(batch(support, masks, query, masks[:, 0], {"slot": slot}), bce).item()
    assert found == pytest.approx(expected, rel=1e-5)


@torch.inference_mode()
def test_all_of_the_support_is_blacked_out() -> None:
    head = make()
    support, masks, query = episode(head, shots=2)
    extra = {"masked": [torch.randn_like(level) for level in support]}
    with_extra = head(batch(support, masks, query, extra=extra))
    assert torch.equal(head(batch([level + 1 for level in support], masks, query, extra=extra)), with_extra)
    for i in range(3):
        other = {"masked": [level + (i == j) for j, level in enumerate(extra["masked"])]}
        assert not torch.allclose(head(batch(support, masks, query, extra=other)), with_extra, atol=1e-6), i
    shares = resized(masks.flatten(0, 1).numpy(), GRID).reshape(2, 2, 1, GRID, GRID)
    own = [shots_to_grid(level, GRID) * torch.from_numpy(shares).float() for level in support]
    stands_in = head(batch(support, masks, query))
    assert torch.allclose(stands_in, head(batch(support, masks, query, extra={"masked": own})), atol=1e-5)
    assert not torch.allclose(stands_in, with_extra, atol=1e-5)
