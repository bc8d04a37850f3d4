"""DCP: the head's contract, its mechanism against NumPy in double precision, its size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.models import configure, create_model
from lerenet.models.losses import bce
from lerenet.models.peers.dcp import DCP, activations, regions
from lerenet.models.segmenter import shots_to_grid
from tests.helpers.equations import Array, array, close, conv1, double, rand, relu
from tests.helpers.networks import CHANNELS, SIZE, batch, episode, stays_finite, support_of
from tests.helpers.peers import classified, dilated, nearest, refined, resized, to_unit_range

GRID = 7


def make(size: int = SIZE, **config: float) -> DCP:
    """The small head in eval mode."""
    torch.manual_seed(1)
    head = create_model(configure("dcp", width=8, side=GRID, **config), CHANNELS, size)
    assert isinstance(head, DCP)
    return head.eval()


def blacked_out(support: list[Tensor]) -> Mapping[str, Any]:
    """Features of other images in the place of those of the blacked-out ones."""
    torch.manual_seed(11)
    return {"masked": [torch.randn_like(level) for level in support]}


def double_episode(shots: int) -> tuple[list[Tensor], Tensor, list[Tensor], Mapping[str, Any]]:
    """On the head's grid, in double precision, with masks that are soft at their borders there."""
    shapes = [(CHANNELS[level], GRID, GRID) for level in (2, 3, 4)]
    support, query = [rand(1, shots, *shape) for shape in shapes], [rand(1, *shape) for shape in shapes]
    masks = F.interpolate((rand(1, shots, 8, 8) > 0.3).double(), scale_factor=5)
    return support, masks, query, {"masked": [rand(1, shots, *shape) for shape in shapes]}


# -- the head's contract ---------------------------------------------------------------------------------


@pytest.mark.parametrize("foreground", [0, 1])
@pytest.mark.parametrize("certain", [-1, 1])
def test_masks_and_guesses_without_foreground_or_background(foreground: int, certain: int) -> None:
    """Three or four of the six masks are empty; `certain` is what the support guesses everywhere."""
    head = make().train()
    with torch.no_grad():
        head.reason[2][3].bias.copy_(torch.tensor([-20.0, 20.0]) * certain)
    support, masks, query = episode(head, shots=2)
    masks.fill_(foreground)
    stays_finite(head, support, masks, query)
    with torch.inference_mode():
        prototypes = head.encode(support_of(support, masks))["prototypes"]
    empty = [not bool(one.any()) for one in prototypes.unbind(1)]
    found, missed = certain < 0, certain > 0  # alpha and delta, beta and gamma: empty
    inside, outside = foreground == 0, foreground == 1
    assert empty == [
        inside or found, inside, inside or missed, outside, outside or found, outside or missed
    ]  # fmt: skip


def test_learning_in_bfloat16_and_in_double_precision() -> None:
    head = make()
    support, masks, query = episode(head, shots=2)
    single = head.learn(batch(support, masks, query, masks[:, 0]), bce)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = head.learn(batch(support, masks, query, masks[:, 0]), bce)
    assert rough.item() == pytest.approx(single.item(), rel=0.02)
    rough.backward()
    assert all(bool(torch.isfinite(value.grad).all()) for value in head.parameters())
    support, query = [level.double() for level in support], [level.double() for level in query]
    found = head.double().learn(batch(support, masks.double(), query, masks[:, 0].double()), bce)
    assert found.item() == pytest.approx(single.item(), rel=1e-4)


def test_other_levels() -> None:
    for levels in ((1, 2), (3,), (1, 2, 3, 4)):
        head = create_model(configure("dcp", levels=levels, width=8, side=5), CHANNELS, SIZE)
        assert head(batch(*episode(head))).shape == (2, SIZE, SIZE)


def test_dropout_stands_where_it_is_told_to() -> None:
    def rates(**config: float) -> list[float]:
        return [part.p for part in make(**config).modules() if isinstance(part, nn.Dropout2d) and part.p]

    assert sorted(rates()) == [0.1] * 3 + [0.5] * 2
    assert rates(dropout=0.0) == []
    assert rates(dropout=0.3) == [0.3] * 5


def test_the_decoders_differ_and_start_as_kaiming_has_it() -> None:
    head = make()
    assert len(head.foreground) == len(head.background) == 5
    for side in (head.foreground, head.background):
        for branch in side[1].branches[2:]:
            spread = float(branch[0].weight.detach().std())
            assert spread == pytest.approx((2 / (9 * 8)) ** 0.5, rel=0.2)
    assert not torch.equal(head.foreground[1].branches[2][0].weight, head.background[1].branches[2][0].weight)


def test_what_the_prior_reads_keeps_no_graph() -> None:
    head = make()
    support, masks, _ = episode(head)
    state = head.encode(support_of([level.requires_grad_() for level in support], masks))
    assert state["prototypes"].requires_grad
    assert not state["like"].requires_grad


# -- the six masks and their activations -----------------------------------------------------------------


def test_the_six_masks_of_every_case() -> None:
    """One place for each pair of guess and truth; a tie is background, as the arg-max has it."""
    two = torch.tensor([[0, 1], [1, 0], [0, 1], [1, 0], [2, 3], [3, 2], [5, 5]], dtype=torch.float64)
    shares = torch.tensor([1, 1, 0, 0, 0.25, 0.25, 1], dtype=torch.float64)
    found = regions(two.T[None, :, None], shares[None, None])
    expected = [  # TP, FN, FP, TN, guessed at the border, not guessed at the border, tie
        [1, 0, 0, 0, 0.25, 0, 0],  # alpha
        [1, 1, 0, 0, 0.25, 0.25, 1],  # M
        [0, 1, 0, 0, 0, 0.25, 1],  # beta
        [0, 0, 1, 1, 0.75, 0.75, 0],  # not M
        [0, 0, 1, 0, 0.75, 0, 0],  # delta
        [0, 0, 0, 1, 0, 0.75, 0],  # gamma
    ]
    close(found[0, :, 0], np.array(expected))


def test_the_masks_pass_no_gradient_to_the_guess() -> None:
    guess, shares = rand(2, 2, 4, 4).requires_grad_(), torch.rand(2, 4, 4, dtype=torch.float64)
    assert not regions(guess, shares).requires_grad


def test_the_main_loss_alone_teaches_the_guesses_nothing() -> None:
    head = make()
    support, masks, query = episode(head)
    bce(head(batch(support, masks, query)), masks[:, 0]).backward()
    learnt = {name.split(".")[0] for name, value in head.named_parameters() if value.grad is not None}
    assert learnt == {"query_middle", "support_middle", "foreground", "background"}


def test_activations_are_cosines() -> None:
    query, prototypes = rand(2, 5, 3, 4), rand(2, 6, 5)
    prototypes[1, 2] = 0  # of an empty mask
    found = activations(query, prototypes)
    for b in range(2):
        q, p = array(query)[b].reshape(5, -1), array(prototypes)[b]
        lengths = np.outer(np.linalg.norm(p, axis=1), np.linalg.norm(q, axis=0))
        expected = np.where(lengths > 0, p @ q / np.where(lengths > 0, lengths, 1), 0)
        close(found[b], expected.reshape(6, 3, 4))
    assert float(found.abs().max()) > 0.5


def test_activations_keep_their_precision_under_autocast() -> None:
    query, prototypes = rand(1, 64, 5, 5).float(), rand(1, 6, 64).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = activations(query, prototypes)
    np.testing.assert_allclose(
        array(found), array(activations(query.double(), prototypes.double())), atol=1e-6
    )


# -- the network -----------------------------------------------------------------------------------------


def guessed(head: DCP, high: Array) -> Array:
    """The self-reasoning head on one highest level (c_4, grid, grid): two channels."""
    first, pair, last = head.reason
    return classified(last, refined(pair, relu(conv1(first[0], high))))


def decoded(layer: nn.Sequential, parts: list[Array]) -> Array:
    """One side's decoder on its inputs (n, grid, grid): one channel."""
    first, aspp, join, pair, last = layer
    x = relu(conv1(first[0], np.concatenate(parts)))
    convs = [branch[0] for branch in aspp.branches]
    average = np.broadcast_to(conv1(convs[0], x.mean((1, 2), keepdims=True)), x.shape)
    x = relu(np.concatenate([average, conv1(convs[1], x), *(dilated(conv, x) for conv in convs[2:])]))
    return classified(last, refined(pair, relu(conv1(join[0], x))))


def six_prototypes(head: DCP, levels: list[Array], soft: Array) -> dict[str, Array]:
    """Of one shot (c, grid, grid) a level, and its soft mask; written place by place from the definitions."""
    feature = relu(conv1(head.support_middle.reduce[0], np.concatenate(levels[:-1])))
    guess = guessed(head, levels[-1]).argmax(0)
    masks = {name: np.zeros_like(soft) for name in ("alpha", "beta", "delta", "gamma", "FG", "BG")}
    for place in np.ndindex(soft.shape):
        inside = soft[place]
        masks["FG"][place], masks["BG"][place] = inside, 1 - inside
        masks["alpha" if guess[place] else "beta"][place] = inside
        masks["delta" if guess[place] else "gamma"][place] = 1 - inside
    return {n: (feature * mask).sum((1, 2)) / (mask.sum() + 0.0005) for n, mask in masks.items()}


@pytest.mark.parametrize("shots", [1, 3])
def test_the_network_by_hand(shots: int) -> None:
    head = make()
    torch.manual_seed(2)
    head = double(head)
    support, masks, query, extra = double_episode(shots)
    each, near, guesses = [], [], []
    for k in range(shots):
        soft = resized(array(masks)[0, k : k + 1], GRID)[0]
        assert 0 < ((soft > 0) & (soft < 1)).mean() < 1
        levels = [array(level)[0, k] for level in support]
        each.append(six_prototypes(head, levels, soft))
        guesses.append(guessed(head, levels[-1]))
        near.append(to_unit_range(nearest(array(query[2])[0], array(extra["masked"][2])[0, k] * soft)))
    mean = {name: np.mean([one[name] for one in each], axis=0) for name in each[0]}
    assert all(0.05 < (guess.argmax(0)).mean() < 0.95 for guess in guesses)  # all six masks have places

    q = [array(level)[0] for level in query]
    x = relu(conv1(head.query_middle.reduce[0], np.concatenate(q[:2])))

    def like(name: str) -> Array:
        p = mean[name][:, None, None]
        lengths = np.linalg.norm(x, axis=0) * np.linalg.norm(p)
        return ((x * p).sum(0) / np.maximum(lengths, 1e-12))[None]

    def everywhere(name: str) -> Array:
        return np.broadcast_to(mean[name][:, None, None], x.shape)

    maps = [like(name) for name in ("alpha", "FG", "beta")]
    foreground = decoded(head.foreground, [x, everywhere("FG"), np.mean(near, axis=0)[None], *maps])
    maps = [like(name) for name in ("BG", "delta", "gamma")]
    background = decoded(head.background, [x, everywhere("BG"), *maps])

    state, own = head._enrolled(support_of(support, masks, extra))
    order = ("alpha", "FG", "beta", "BG", "delta", "gamma")
    close(state["prototypes"][0], np.stack([mean[name] for name in order]))
    close(own[0], np.stack(guesses))
    two, side = head._outputs(state, query, side=True)
    np.testing.assert_allclose(array(two)[0], np.concatenate([background, foreground]), rtol=1e-5, atol=1e-6)
    close(side[0][0], guessed(head, q[2]))
    assert len(side) == 1
    assert head._outputs(state, query, side=False)[1] == []


@pytest.mark.parametrize("shots", [1, 2])
def test_the_loss_is_cross_entropy_and_the_mean_of_that_of_all_guesses(shots: int) -> None:
    head = make()
    support, masks, query = episode(head, shots=shots)
    masks = masks.roll(5, -1)
    truth = masks[:, 0].roll(7, -2)

    def entropy(two: Tensor, truth: Tensor) -> float:
        large = F.interpolate(two, size=SIZE, mode="bilinear", align_corners=False)
        return F.cross_entropy(large, truth.long()).item()

    main = head._outputs(head.encode(support_of(support, masks)), query, side=False)[0]
    guesses = [
        entropy(head.reason(F.interpolate(level, size=GRID, mode="bilinear")), t)
        for level, t in [(query[-1], truth), *zip(support[-1].unbind(1), masks.unbind(1), strict=True)]
    ]
    assert len(guesses) == 1 + shots
    expected = entropy(main, truth) + sum(guesses) / (1 + shots)
    assert head.learn(batch(support, masks, query, truth), bce).item() == pytest.approx(expected, rel=1e-5)


@torch.inference_mode()
def test_what_the_support_guesses_changes_the_answer() -> None:
    head = make()
    support, masks, query = episode(head)
    before = head.encode(support_of(support, masks))
    head.reason[2][3].weight.neg_()
    head.reason[2][3].bias.neg_()  # foreground and background change places
    after = head.encode(support_of(support, masks))
    moved = (before["prototypes"] - after["prototypes"]).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == [True, False, True, False, True, True]  # the defect's and the rest's whole stay
    exchanged = before["prototypes"][:, [2, 1, 0, 3, 5, 4]]
    assert torch.allclose(after["prototypes"], exchanged, atol=1e-6)
    assert not torch.allclose(head.decode(before, query), head.decode(after, query), atol=1e-4)


@torch.inference_mode()
def test_each_decoder_sees_only_its_own() -> None:
    head = make()
    support, masks, query = episode(head)
    state = head.encode(support_of(support, masks))

    def moved(name: str, at: int | None = None) -> list[bool]:
        other = {key: value.clone() for key, value in state.items()}
        part = other[name] if at is None else other[name][:, at]
        part.copy_(torch.randn(part.shape, generator=torch.Generator().manual_seed(3)))
        two, before = (head._outputs(one, query, side=False)[0] for one in (other, state))
        return [not torch.equal(a, b) for a, b in zip(two.unbind(1), before.unbind(1), strict=True)]

    for at in range(6):
        assert moved("prototypes", at) == [at >= 3, at < 3]  # background, foreground
    assert moved("like") == [False, True]


@torch.inference_mode()
def test_the_prior_alone_reads_the_blacked_out_support() -> None:
    head = make()
    assert head.reads == ("masked",)
    support, masks, query = episode(head, shots=2)
    extra = blacked_out(support)
    state, other = head.encode(support_of(support, masks, extra)), head.encode(support_of(support, masks))
    assert torch.equal(state["prototypes"], other["prototypes"])  # guesses are of the whole image
    assert not torch.equal(state["like"], other["like"])
    assert not torch.equal(head.decode(state, query), head.decode(other, query))
    changed = {"masked": [*(level + 1 for level in extra["masked"][:2]), extra["masked"][2]]}
    assert torch.equal(head(batch(support, masks, query, extra=changed)), head.decode(state, query))


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
