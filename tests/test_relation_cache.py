"""Relations that are kept are those of the images, whatever they were batched with, and computed once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from lerenet.data.episodes import Shot
from lerenet.models import create_model
from lerenet.models.base import Segmenter
from lerenet.params import ModelConfig
from lerenet.relation_cache import RelationCache
from lerenet.scoring import gather

CHANNELS = {2: 6, 3: 8}
CPU = torch.device("cpu")
SUPPORTS = [[("a", 0), ("b", 1)], [("c", 0), ("a", 2)], [("b", 0), ("c", 1)]]
QUERIES: list[Shot] = [("c", 1), ("b", 0), ("a", 1)]


class Pictures:
    """Random features of named shots, the same every time they are asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def features(self, shots: Sequence[Shot], levels: Sequence[int], masked: bool = False) -> list[Tensor]:
        self.asked += 1
        return [
            torch.stack(
                [self._draw(shot, level, CHANNELS[level], 12 // level, 12 // level) for shot in shots]
            )
            for level in levels
        ]

    def normal(self, shot: Shot) -> Shot | None:
        return None

    def masks(self, shots: Sequence[Shot]) -> Tensor:
        return torch.stack([(self._draw(shot, 0, 40, 40) > 0.8).float() for shot in shots])

    def pictures(self, shots: Sequence[Shot]) -> Tensor:
        return torch.stack([self._draw(shot, 9, 3, 40, 40).sigmoid() for shot in shots])

    @staticmethod
    def _draw(shot: Shot, key: int, *shape: int) -> Tensor:
        seed = 100 * "abc".index(shot[0]) + 10 * shot[1] + key
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def head(**changes: object) -> Segmenter:
    torch.manual_seed(0)
    given = {"grid": 6, "width": 8, "levels": (2, 3), **changes}
    model = create_model(ModelConfig.model_validate(given), CHANNELS, 40)
    for value in model.parameters():  # away from the zeros that it starts with
        torch.nn.init.normal_(value, std=0.3)
    return model.eval()


@pytest.mark.parametrize("changes", [{}, {"mpr": False}, {"shots": "average"}, {"mpe": False, "edge": False}])
def test_reasoning_over_kept_relations_is_the_whole_head(changes: dict[str, object]) -> None:
    model, source = head(**changes), Pictures()
    support, masks, query, _ = gather(source, SUPPORTS, QUERIES, model.levels, CPU)
    expected = model(support, masks, query)
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
