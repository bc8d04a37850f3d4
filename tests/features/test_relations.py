"""Relations that are kept are those of the images, whatever they were batched with, and computed once."""

from __future__ import annotations

import pytest
import torch

from lerenet.cells import View
from lerenet.features.relations import RelationCache
from lerenet.models.batch import assemble
from tests.helpers.pictures import CPU, Pictures, head

SUPPORTS = [[("a", 0), ("b", 1)], [("c", 0), ("a", 2)], [("b", 0), ("c", 1)]]
QUERIES: list[View] = [("c", 1), ("b", 0), ("a", 1)]


@pytest.mark.parametrize(
    "changes", [{}, {"mpr": False}, {"shot_fusion": "average"}, {"mpe": False, "edge": False}]
)
def test_reasoning_over_kept_relations_is_the_whole_head(changes: dict[str, object]) -> None:
    model, source = head(**changes), Pictures()
    episodes = assemble(source, SUPPORTS, QUERIES, model, CPU)
    expected = model(episodes)
    found = model.answer(RelationCache(model, source, CPU, "fp32")(SUPPORTS, QUERIES))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    found.sum().backward()  # the weights are reached through what is kept
    assert all(value.grad is not None for name, value in model.named_parameters() if "ifm" in name)


def test_a_pair_is_compared_once_and_batches_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lerenet.device.has_bf16", lambda kind: True)
    model, source = head(), Pictures()
    cache = RelationCache(model, source, CPU, "bf16")
    first = cache(SUPPORTS, QUERIES)
    asked = source.asked
    again = cache(SUPPORTS[::-1], QUERIES[::-1])
    assert source.asked == asked
    alone = RelationCache(model, source, CPU, "bf16")(SUPPORTS[1:2], QUERIES[1:2])
    for name, value in first.items():
        assert torch.equal(value, again[name].flip(0))
        assert torch.equal(value[1:2], alone[name])


def test_what_has_no_room_is_compared_again() -> None:
    model, source = head(), Pictures()
    cache = RelationCache(model, source, CPU, "fp32", room=0)
    first, asked = cache(SUPPORTS, QUERIES), source.asked
    again = cache(SUPPORTS, QUERIES)
    assert source.asked == 2 * asked
    assert all(torch.equal(first[name], again[name]) for name in first)
