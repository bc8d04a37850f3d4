"""DCP (IJCAI 2022): divide and conquer. The support segments itself, and its mistakes become prototypes.

A self-reasoning head guesses the support's defect without being told where it is. Guess and true mask part
the support into what it finds, misses and invents; each part, the whole defect and the whole background give
a prototype. Two decoders of their own, foreground and background, see the query beside theirs and the maps
of how like the query is to each.
Here: the backbone is not dilated by default, so every level is brought to one grid; the support's highest level for the
prior is of the image blacked out around the defect; the support's guesses are held against its true mask at
full size (the release shrinks that mask); a query's own guess serves the loss alone, so `decode` leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.models.batch import Support, TrainingBatch
from lerenet.models.config import register
from lerenet.models.descriptors import full
from lerenet.models.peers.parts import (
    ASPP,
    WIDTH,
    Middle,
    ResidualPair,
    classifier,
    difference,
    masked_average,
    merge,
    side_by_side,
    tile,
)
from lerenet.models.peers.similar import Similar, SimilarConfig
from lerenet.models.segmenter import Loss, Segmenter, State, expand, masks_to_grid


def regions(guess: Tensor, shares: Tensor) -> Tensor:
    """The six masks: those of the foreground's decoder, then those of the background's.

    Args:
        guess: the support's own two-channel output, (N, 2, h, w); its arg-max counts, so no gradient passes.
        shares: the true mask M, soft at its border, (N, h, w).

    Returns:
        (N, 6, h, w): alpha (found), M, beta (missed); not M, delta (false alarm), gamma (rightly left out).
    """
    hit = (guess[:, 1] > guess[:, 0]).to(shares.dtype)  # (N, h, w)
    missed, rest = 1 - hit, 1 - shares
    return torch.stack([hit * shares, shares, missed * shares, rest, hit * rest, missed * rest], dim=1)


def activations(query: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of each query place (B, c, h, w) with each prototype (B, n, c): (B, n, h, w), 0 if that is empty."""
    with torch.autocast(query.device.type, enabled=False):
        q = F.normalize(full(query), dim=1, eps=1e-7)
        p = F.normalize(full(prototypes), dim=2, eps=1e-7)
        return torch.einsum("bnc,bchw->bnhw", p, q).to(query.dtype)


def decoder(inputs: int, width: int = WIDTH, dropout: float = 0.1) -> nn.Sequential:
    """One side's decoder: (B, inputs, h, w) -> (B, 1, h, w)."""
    aspp = ASPP(width, width)
    for part in aspp.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    return nn.Sequential(
        merge(inputs, width),
        aspp,
        merge(5 * width, width),
        ResidualPair(width),
        classifier(width, 1, dropout),
    )


@register("dcp", SimilarConfig)
class DCP(Segmenter):
    """Levels 2 and 3 are the middle features, level 4 gives the prior and the guesses (the last of `levels`).

    `config.dropout` stands in for both rates: 0.5 after the reduction, 0.1 before each last layer.
    """

    reads = ("masked",)

    def __init__(self, config: SimilarConfig, channels: Mapping[int, int], image_size: int) -> None:
        super().__init__(channels, config.levels or (2, 3, 4), image_size)
        self.side, self.width = config.side or 25, config.width or WIDTH
        rate, last = (0.5, 0.1) if config.dropout is None else (config.dropout, config.dropout)
        inputs = sum(self.channels[:-1] or self.channels)
        self.query_middle = Middle(inputs, self.width, rate, scaled=config.scaled)
        self.support_middle = Middle(inputs, self.width, rate, scaled=config.scaled)
        self.similar, self.scaled = Similar(config.prior, self.side), config.scaled
        self.reason = nn.Sequential(
            merge(self.channels[-1], self.width),
            ResidualPair(self.width),
            classifier(self.width, dropout=last),
        )
        self.foreground = decoder(2 * self.width + 4, self.width, last)
        self.background = decoder(2 * self.width + 3, self.width, last)

    def encode(self, support: Support) -> State:
        """Means of the K shots' six prototypes, (B, 6, c), and what the prior needs."""
        return self._enrolled(support)[0]

    def _enrolled(self, support: Support) -> tuple[State, Tensor]:
        """The state, and the shots' guesses (B, K, 2, side, side)."""
        levels, masks = support.levels, support.masks
        shares = masks_to_grid(masks, self.side, "bilinear").to(levels[0].dtype)  # (B, K, h, w)
        guess = self._guess(levels[-1].flatten(0, 1))  # (B K, 2, h, w)
        middle = [level.flatten(0, 1) for level in levels[:-1] or levels]
        feature = self.support_middle(middle, self.side)  # (B K, c, h, w)
        parts = regions(guess, shares.flatten(0, 1)).unbind(1)
        each = torch.stack([masked_average(feature, part) for part in parts], dim=1)  # (B K, 6, c)
        state = {"prototypes": each.unflatten(0, masks.shape[:2]).mean(1), **self.similar.keep(support)}
        return state, guess.unflatten(0, masks.shape[:2])

    def _guess(self, level: Tensor) -> Tensor:
        """Highest level (N, c, h, w) -> what the head finds in it by itself, two channels (N, 2, side, side)."""
        guess: Tensor = self.reason(side_by_side([level], self.side, self.scaled))
        return guess

    def _outputs(self, state: State, query: list[Tensor], side: bool) -> tuple[Tensor, list[Tensor]]:
        """Two-channel output (B, 2, side, side); with ``side`` also the query's own guess, else nothing."""
        x = self.query_middle(query[:-1] or query, self.side)  # (B, c, h, w)
        near = self.similar(state, query).to(x.dtype)  # (B, 1, h, w)
        prototypes = expand(state["prototypes"], len(x)).to(x.dtype)  # (B, 6, c)
        like = activations(x, prototypes)  # (B, 6, h, w)
        whole, rest = tile(prototypes[:, 1], x), tile(prototypes[:, 3], x)
        foreground = self.foreground(torch.cat([x, whole, near, like[:, :3]], dim=1))
        background = self.background(torch.cat([x, rest, like[:, 3:]], dim=1))
        return torch.cat([background, foreground], dim=1), [self._guess(query[-1])] if side else []

    def decode(self, state: State, query: list[Tensor]) -> Tensor:
        """State and query features (B, c, h, w) a level -> logits (B, image_size, image_size)."""
        return self.enlarge(difference(self._outputs(state, query, side=False)[0]))

    def learn(self, batch: TrainingBatch, loss: Loss) -> Tensor:
        """Loss of the output + the mean over the query and the K shots of the losses of their own guesses."""
        state, own = self._enrolled(batch.support)
        main, side = self._outputs(state, batch.query, side=True)
        guesses = [*side, *own.unbind(1)]
        truths = [batch.truth, *batch.support.masks.to(batch.truth.dtype).unbind(1)]
        each = [loss(self.enlarge(difference(two)), t) for two, t in zip(guesses, truths, strict=True)]
        return loss(self.enlarge(difference(main)), batch.truth) + torch.stack(each).mean()
