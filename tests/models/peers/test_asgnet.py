"""ASGNet: the head's contract, seeds, clustering and allocation against NumPy in double precision, its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional as F

from lerenet.models import configure, create_model
from lerenet.models.losses import bce
from lerenet.models.peers import asgnet
from lerenet.models.peers.asgnet import ASGNet, allocate, cluster, place_seeds
from lerenet.models.segmenter import Segmenter
from tests.helpers.equations import Array, array, close, conv1, double, rand
from tests.helpers.networks import CHANNELS, SIZE, batch, episode, stays_finite, support_of
from tests.helpers.peers import classified, enriched, picked, resized

GRID = 9  # two cells a prototype


def make(size: int = SIZE, grid: int = GRID, **config: float) -> Segmenter:
    """The small head in eval mode."""
    torch.manual_seed(1)
    head = create_model(configure("asgnet", width=8, side=grid, **config), CHANNELS, size)
    assert isinstance(head, ASGNet)
    return head.eval()


def episode_of_many(head: Segmenter, **options: int) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """`episode`, its defects so large that each shot has several prototypes."""
    support, masks, query = episode(head, **options)
    masks[:, :, 5:30, 10:30] = 1
    assert int(head.encode(support_of(support, masks))["real"].sum(1).min()) > 2
    return support, masks, query


# -- the head's contract ---------------------------------------------------------------------------------


def test_gradient_reaches_every_weight_and_never_the_support() -> None:
    head = make().train()
    support, masks, query = episode_of_many(head, batch=3, shots=2)
    support = [level.requires_grad_() for level in support]
    query = [level.requires_grad_() for level in query]
    head.learn(batch(support, masks, query, masks[:, 0]), bce).backward()
    for name, value in head.named_parameters():
        assert value.grad is not None, name
        assert bool(torch.isfinite(value.grad).all()), name
        assert float(value.grad.abs().max()) > 0, name
    assert all(level.grad is None for level in support)
    assert all(level.grad is not None for level in query)


@pytest.mark.parametrize("foreground", [0, 1, None])
def test_masks_without_foreground_or_background(foreground: int | None) -> None:
    head = make().train()
    support, masks, query = episode(head, shots=2)
    masks.fill_(foreground or 0)
    if foreground is None:  # lines: many cells touched, none of them wholly inside
        masks[:, :, ::10] = 1
    stays_finite(head, support, masks, query)


def test_double_precision() -> None:
    head = make()
    support, masks, query = episode_of_many(head, shots=2)
    single = head.learn(batch(support, masks, query, masks[:, 0]), bce)
    support, query = [level.double() for level in support], [level.double() for level in query]
    found = head.double().learn(batch(support, masks.double(), query, masks[:, 0]), bce)
    assert found.item() == pytest.approx(single.item(), rel=1e-4)


# -- its mechanism ---------------------------------------------------------------------------------------


def seeds_by_hand(mask: Array, most: int) -> list[int]:
    """With SciPy's distance transform in the mask's bounding box, computed anew after each seed."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    left = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(bool)
    found = []
    for _ in range(most):
        i, j = np.unravel_index(distance_transform_edt(left).argmax(), left.shape)
        found.append(int((rows[0] + i) * mask.shape[1] + columns[0] + j))
        left[i, j] = False
    return found


def blob(side: int = 12) -> Array:
    """A mask of one irregular piece and a small one."""
    rows, columns = np.mgrid[:side, :side]
    large = (rows - 4) ** 2 / 9 + (columns - 3) ** 2 / 20 < 1
    return (large | ((rows > 8) & (columns > 9))).astype(np.float64)


@pytest.mark.parametrize(
    "mask", [blob(), blob()[::-1].copy(), np.eye(6), np.pad(np.tri(6, 7), ((2, 1), (3, 4)))]
)
def test_seeds_lie_deep_inside_and_apart(mask: Array) -> None:
    both = torch.from_numpy(np.stack([mask, 1 - mask, mask * 0]))
    found = place_seeds(both)
    assert found.tolist() == [seeds_by_hand(mask, 5), seeds_by_hand(1 - mask, 5), [0] * 5]
    assert all(mask.flat[i] == 1 for i in found[0])
    assert len(set(found[0].tolist())) == 5


def test_a_defect_that_fills_its_box_has_seeds_in_two_corners() -> None:
    """No background in the box: SciPy's first place is the last cell, ours the first, and both take both."""
    mask = np.pad(np.ones((4, 6)), ((3, 2), (1, 2)))
    found = place_seeds(torch.from_numpy(mask)[None])[0].tolist()
    assert sorted(found) == sorted(seeds_by_hand(mask, 5))
    assert found[:2] == [3 * 9 + 1, 6 * 9 + 6]


def centres_by_hand(feature: Array, sure: Array, seeds: list[int], steps: int) -> Array:
    """SGC of one image, (c, h, w) -> (n, c), a centre at a time."""
    where = np.stack(np.unravel_index(np.arange(sure.size), sure.shape)).astype(float)  # (2, l)
    flat, kept = feature.reshape(len(feature), -1), np.flatnonzero(sure)
    found = []
    for seed in seeds:
        f, xy = flat[:, seed], where[:, seed]
        for _ in range(steps):
            weights = np.array(
                [
                    np.exp(-np.sqrt(((flat[:, p] - f) ** 2).sum() + ((where[:, p] - xy) ** 2).sum() / 100))
                    for p in kept
                ]
            )
            weights /= weights.sum()
            f, xy = flat[:, kept] @ weights, where[:, kept] @ weights
        found.append(f)
    return np.array(found)


@pytest.mark.parametrize("steps", [1, 5])
def test_clustering(steps: int) -> None:
    feature, sure = rand(2, 3, 6, 7), rand(2, 6, 7) > 0
    seeds = torch.tensor([[3, 20, 11], [40, 0, 8]])
    found = cluster(feature, sure, seeds, steps)
    for i in range(2):
        close(found[i], centres_by_hand(array(feature)[i], array(sure)[i], seeds[i].tolist(), steps))


def test_clustering_counts_places_as_well_as_features() -> None:
    """Features that hardly differ: the centres stay near their seeds for the distance on the grid alone."""
    rows = torch.arange(40.0, dtype=torch.float64)[:, None].expand(40, 2)
    feature = torch.stack([rows * 0, rows * 1e-3])[None]
    found = cluster(feature, torch.ones(1, 40, 2).bool(), torch.tensor([[0, 79]]), 5)
    low, high = found[0, :, 1].tolist()
    assert low + 0.004 < high  # without places: 0.0195 both


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def allocated(query: Array, prototypes: Array) -> tuple[Array, Array]:
    """GPA of one image, (c, h, w) and (n, c), a place at a time."""
    guide, total = np.zeros((prototypes.shape[1], *query.shape[1:])), np.zeros((1, *query.shape[1:]))
    for i, j in np.ndindex(*query.shape[1:]):
        alike = [cosine(query[:, i, j], p) for p in prototypes]
        guide[:, i, j], total[0, i, j] = prototypes[int(np.argmax(alike))], np.sum(alike)
    return guide, total


def test_allocation() -> None:
    query, prototypes = rand(2, 4, 3, 5), rand(2, 6, 4) * torch.arange(1, 7)[:, None]  # length does not count
    real = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 1]]).bool()
    guide, total = allocate(query, prototypes, real)
    for i in range(2):
        expected = allocated(array(query)[i], array(prototypes)[i][array(real)[i]])
        close(guide[i], expected[0])
        close(total[i], expected[1])


@pytest.mark.parametrize("side", [0, 8, 24, 40, 64, 72, 80, 200])
def test_prototypes_by_area(side: int) -> None:
    """17 cells a prototype on 25 x 25, half to even, one at least and five at most."""
    head = make(200, 25)
    assert head.cells == 17
    support, _, _ = episode(head, batch=1, size=200)
    masks = torch.zeros(1, 1, 200, 200)
    masks[:, :, :side, :side] = 1
    cells = (np.arange(0, 200, 8) < side).sum() ** 2
    real = head.encode(support_of(support, masks))["real"][0]
    assert int(real.sum()) == min(max(round(cells / 17), 1), 5)
    assert real.tolist() == sorted(real.tolist(), reverse=True)


def test_a_small_defect_has_its_masked_average_and_a_large_one_its_clusters() -> None:
    head = double(make(dropout=0.0))
    shapes = [(CHANNELS[level], GRID, GRID) for level in (2, 3)]
    support = [rand(1, 3, *shape) for shape in shapes]
    masks = torch.zeros(1, 3, SIZE, SIZE, dtype=torch.float64)
    masks[0, 0, 10:15, 10:14] = 1  # one cell
    masks[0, 1, 4:36, 3:22] = 1  # many, but for a corner
    masks[0, 1, 25:36, 3:10] = 0
    masks[0, 2, [4, 8]] = 1  # 18 cells by their nearest pixel, none of them wholly
    found = {}
    for training, steps in ((False, 5), (True, 10)):
        state = head.train(training).encode(support_of(support, masks))
        real = state["real"][0].reshape(3, 5)
        known = state["prototypes"][0].reshape(3, 5, 8)
        for k in range(3):
            both = np.concatenate([array(level)[0, k] for level in support])
            feature = conv1(head.middle.reduce[0], both)  # no ReLU
            soft = resized(array(masks)[0, k : k + 1], GRID)[0]
            hard = picked(array(masks)[0, k], GRID)
            count = min(round(hard.sum() / 2), 5) if (soft > 0.99999).any() else 1
            assert int(real[k].sum()) == max(count, 1)
            if count <= 1:
                close(known[k, 0], (feature * soft).sum((1, 2)) / (soft.sum() + 0.0005))
            else:
                seeds = seeds_by_hand(hard, 5)[:count]
                close(known[k, :count], centres_by_hand(feature, soft > 0.99999, seeds, steps))
        assert (int(real[0].sum()), int(real[2].sum())) == (1, 1)
        assert int(real[1].sum()) == 5
        found[training] = known[1]
    assert not torch.allclose(found[True], found[False], atol=1e-9)
    assert asgnet.MOST == 5


def test_the_query_by_hand() -> None:
    """All shots' prototypes are one pool; guide and sum of cosines go through PFENet's enrichment."""
    head = double(make())
    query = [rand(1, CHANNELS[level], GRID, GRID) for level in (2, 3)]
    state = {"prototypes": rand(1, 10, 8), "real": torch.tensor([[1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]).bool()}
    x = conv1(head.middle.reduce[0], np.concatenate([array(level)[0] for level in query]))
    guide, total = allocated(x, array(state["prototypes"])[0][array(state["real"])[0]])
    merged, side = enriched(head.fem, x, guide, total)
    two, bins = head._outputs(state, query)
    close(two[0], classified(head.classify, merged))
    for found, expected in zip(bins, side, strict=True):
        close(found[0], expected)


def test_the_loss_is_cross_entropy_and_the_mean_over_the_bins() -> None:
    head = make()
    support, masks, query = episode_of_many(head)
    two, side = head._outputs(head.encode(support_of(support, masks)), query)
    assert [x.shape[-1] for x in side] == [9, 5, 3, 2]

    def entropy(x: Tensor) -> float:
        large = F.interpolate(x, size=SIZE, mode="bilinear", align_corners=False)
        return F.cross_entropy(large, masks[:, 0].long()).item()

    expected = entropy(two) + np.mean([entropy(x) for x in side])
    assert head.learn(batch(support, masks, query, masks[:, 0]), bce).item() == pytest.approx(
        expected, rel=1e-5
    )
