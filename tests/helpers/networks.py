"""Networks and random episodes that the tests of the models share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lerenet.models import configure, create_model
from lerenet.models.batch import EpisodeBatch, Support, TrainingBatch
from lerenet.models.config import networks
from lerenet.models.losses import create_loss
from lerenet.models.segmenter import Segmenter

CHANNELS = {1: 6, 2: 8, 3: 10, 4: 12}


SIDES = {1: 10, 2: 5, 3: 3, 4: 2}


SIZE = 40


PEERS = tuple(name for name, entry in networks().items() if ".peers." in entry.build.__module__)


HEADS = {
    "default": configure(width=8, side=5),
    "default_average": configure(width=8, side=5, shot_fusion="average"),
    "paper": configure(preset="paper", width=8, side=5),
    "paper_average": configure(preset="paper", width=8, side=5, shot_fusion="average"),
    "paper_channel": configure(preset="paper", width=8, side=5, edge_form="channel"),
    "authors": configure(preset="authors", side=10),
    "baseline": configure("baseline", width=8, side=5),
    "baseline_authors": configure("baseline", preset="authors", side=10),
    "matching": configure("matching", side=5),
    "matching_average": configure("matching", side=5, shot_fusion="average"),
    "prototype": configure("prototype", side=5),
    **{name: configure(name, width=8, side=6) for name in PEERS},
    "all_foreground": configure("all_foreground"),
    "all_background": configure("all_background"),
}


def make(name: str, size: int = SIZE) -> Segmenter:
    """The head, in eval mode, with every weight away from where it starts."""
    torch.manual_seed(1)
    head = create_model(HEADS[name], CHANNELS, size).eval()
    with torch.no_grad():
        for value in head.parameters():
            value += torch.randn_like(value) * 0.1
    return head


def episode(
    head: Segmenter, batch: int = 2, shots: int = 1, size: int = SIZE, seed: int = 0
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Random features of every level the head reads, and masks with a block of foreground."""
    torch.manual_seed(seed)
    shapes = [(CHANNELS[level], SIDES[level], SIDES[level]) for level in head.levels]
    support = [torch.randn(batch, shots, *shape) for shape in shapes]
    masks = torch.zeros(batch, shots, size, size)
    for k in range(shots):
        masks[:, k, size // 4 : size // 2 + k, size // 4 : size // 2] = 1
    return support, masks, [torch.randn(batch, *shape) for shape in shapes]


def stays_finite(head: Segmenter, support: list[Tensor], masks: Tensor, query: list[Tensor]) -> None:
    """Loss, gradients and, afterwards, the answer hold no NaN and no infinity, whatever the masks."""
    loss = head.learn(batch(support, masks, query, masks[:, 0]), create_loss("bce"))
    loss.backward()
    assert bool(torch.isfinite(loss))
    learnt = [value for value in head.parameters() if value.requires_grad]
    for value in learnt:
        assert value.grad is not None
        assert bool(torch.isfinite(value.grad).all())
    with torch.inference_mode():
        assert bool(torch.isfinite(head.eval()(batch(support, masks, query))).all())


def slots(batch: int) -> Tensor:
    """Each episode's class among the base classes."""
    return torch.arange(1, batch + 1)


def support_of(levels: list[Tensor], masks: Tensor, extra: Mapping[str, Any] | None = None) -> Support:
    """The support of episodes, with what ``extra`` holds of ``masked`` and ``normal``."""
    given = extra or {}
    return Support(levels, masks, given.get("masked"), given.get("normal"))


def batch(
    support: list[Tensor],
    masks: Tensor,
    query: list[Tensor],
    truth: Tensor | None = None,
    extra: Mapping[str, Any] | None = None,
) -> EpisodeBatch:
    """Episodes; with ``truth`` to learn from. ``extra`` as for `support_of`, and ``slot``."""
    both = support_of(support, masks, extra), query
    return EpisodeBatch(*both) if truth is None else TrainingBatch(*both, truth, (extra or {}).get("slot"))
