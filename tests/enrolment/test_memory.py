"""Memories: one example kept whole is what the networks relate to; a budget holds, and loses little."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lerenet.enrolment.memory import AHEAD, k_centres, remember, similarities
from lerenet.models.descriptors import relate


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shares(seed: int, shots: int, places: int) -> torch.Tensor:
    return (torch.rand(shots, places, generator=torch.Generator().manual_seed(seed)) - 0.5).clamp_min(0) * 2


@pytest.mark.parametrize("shots", [1, 4])
def test_examples_that_are_kept_whole_are_related_as_supports_are(shots: int) -> None:
    query, support, share = draw(0, 3, 8, 25), draw(1, shots, 8, 25), shares(2, shots, 25)
    maps, _ = relate(query, support[None].expand(3, -1, -1, -1), share[None].expand(3, -1, -1))
    near, far, good = similarities(query, remember(support, share))
    torch.testing.assert_close(near, maps[:, 0])
    torch.testing.assert_close(far, maps[:, 1])
    assert bool((good == -1).all())


def test_the_order_of_examples_does_not_matter() -> None:
    support, share, query = draw(1, 5, 8, 25), shares(2, 5, 25), draw(0, 1, 8, 25)
    one = similarities(query, remember(support, share))
    other = similarities(query, remember(support.flip(0), share.flip(0)))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40))
def test_chosen_rows_are_all_different_and_cover_the_rest(seed: int, count: int) -> None:
    rows = draw(seed, 40, 3)
    chosen = k_centres(rows, count)
    assert len(set(chosen.tolist())) == count
    covered = torch.cdist(rows, rows[chosen]).amin(1).max()
    apart = torch.cdist(rows[chosen], rows[chosen]) + 1e9 * torch.eye(count)
    if count > 1:  # greedy: what is left over is nearer than the chosen are to one another
        assert covered <= apart.min() + 1e-5


def test_a_budget_holds_and_what_is_rare_is_kept_however_many_images_come() -> None:
    images = 0.01 * draw(0, 40, 100, 50) + 1
    images[3, :, :2] = 5 + draw(1, 100, 2)
    share = torch.zeros(40, 50)
    share[:, 49] = 1  # one place of each is defect
    memory = remember(images, share, budget=50)
    assert AHEAD * 50 < 40 * 49  # they are thinned on the way, too
    assert (len(memory.background), len(memory.foreground)) == (50, 40)
    assert all(bool((memory.background == images[3, :, place]).all(1).any()) for place in (0, 1))
    assert memory.foreground_from.tolist() == list(range(40))
    again = remember(images, share, budget=50)
    assert torch.equal(memory.background, again.background)


def test_good_places_are_kept_apart() -> None:
    support, share, good = draw(1, 2, 8, 25), shares(2, 2, 25), draw(3, 4, 8, 25)
    memory = remember(support, share, good, budget=30)
    assert len(memory.good) == 30
    near, far, _ = similarities(good, memory)
    _, _, alike = similarities(good, remember(support, share, good))
    assert float(alike.mean()) > float(near.mean())
    assert float(alike.mean()) > float(far.mean())
