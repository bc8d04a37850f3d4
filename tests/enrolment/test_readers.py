"""Readers: a picture's score is its most suspicious place, good parts lower it, and both readers enter the blend."""

from __future__ import annotations

import torch

from lerenet.enrolment.fitted import FittedHead
from lerenet.enrolment.memory import remember
from lerenet.enrolment.readers import PIXELS, Known, Read, read

PLACES = 625


def descriptors(seed: int, images: int, channels: int = 8) -> torch.Tensor:
    return torch.randn(images, channels, PLACES, generator=torch.Generator().manual_seed(seed))


def shares(images: int) -> torch.Tensor:
    share = torch.zeros(images, PLACES)
    share[:, :20] = 1
    return share


def test_a_pictures_score_is_its_most_suspicious_place() -> None:
    suspicion = torch.zeros(2, PLACES)
    suspicion[1, 300] = 1.0
    flat, spot = Read(suspicion, suspicion, torch.ones(2)).scores()
    assert float(flat) == 0
    assert 0.5 < float(spot) <= 1
    assert PIXELS % 25 == 0


def test_good_parts_lower_the_score_and_leave_the_marks() -> None:
    given, query = descriptors(0, 2), descriptors(1, 3)
    plain = read(Known(remember(given, shares(2))), query)["matching"]
    knows_good = read(Known(remember(given, shares(2), query)), query)["matching"]
    assert bool((knows_good.scores() < plain.scores()).all())
    torch.testing.assert_close(knows_good.logits, plain.logits)


def test_the_blend_is_the_mean_of_both_and_needs_a_head() -> None:
    query = descriptors(1, 3)
    memory = remember(descriptors(0, 2), shares(2))
    assert list(read(Known(memory), query)) == ["matching_edges", "matching"]
    found = read(Known(memory, FittedHead(8).eval()), query)
    mean = (found["matching"].logits + found["fitted"].logits) / 2
    torch.testing.assert_close(found["blend"].logits, mean)
    assert list(read(Known(memory, FittedHead(8).eval()), query, ("blend",))) == ["blend"]
    scores = [answer.scores() for answer in found.values()]
    assert all(torch.equal(score, scores[0]) for score in scores)  # a picture is judged once
