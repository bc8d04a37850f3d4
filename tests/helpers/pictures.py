"""A source of random features, and a head that reads them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lerenet.cells import View
from lerenet.models import configure, create_model
from lerenet.models.segmenter import Segmenter

CHANNELS = {2: 6, 3: 8}


CPU = torch.device("cpu")


class Pictures:
    """Random features of named shots, the same every time they are asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def features(self, shots: Sequence[View], levels: Sequence[int], masked: bool = False) -> list[Tensor]:
        self.asked += 1
        return [
            torch.stack(
                [self._draw(shot, level, CHANNELS[level], 12 // level, 12 // level) for shot in shots]
            )
            for level in levels
        ]

    def normal(self, shot: View) -> View | None:
        return None

    def masks(self, shots: Sequence[View]) -> Tensor:
        return torch.stack([(self._draw(shot, 0, 40, 40) > 0.8).float() for shot in shots])

    def pictures(self, shots: Sequence[View]) -> Tensor:
        return torch.stack([self._draw(shot, 9, 3, 40, 40).sigmoid() for shot in shots])

    @staticmethod
    def _draw(shot: View, key: int, *shape: int) -> Tensor:
        seed = 100 * "abc".index(shot[0]) + 10 * shot[1] + key
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def head(**changes: object) -> Segmenter:
    torch.manual_seed(0)
    given = {"side": 6, "width": 8, "levels": (2, 3), **changes}
    model = create_model(configure(**given), CHANNELS, 40)
    for value in model.parameters():  # away from the zeros that it starts with
        torch.nn.init.normal_(value, std=0.3)
    return model.eval()
