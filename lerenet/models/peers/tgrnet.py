"""TGRNet (TIM 2021): a query told apart from the defect of a support and from a defect-free image.

Graph reasoning relates the query with the support and, by the same weights, with a normal image of its
class; the difference of the two answers is the output, with a second-order cosine prior of each.
Here: the backbone is frozen (the release trains it at a fiftieth of the head's rate); the prior lies on
the query's grid (as released, the map of the support's grid is added to the query's logits); the
triplet term is differentiable (soft masks; as released it is computed on detached arrays and trains
nothing) and knows no scale; layers that the release builds and never runs are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.models.batch import Support, TrainingBatch, without_defect
from lerenet.models.config import register
from lerenet.models.descriptors import full, unit
from lerenet.models.peers.parts import (
    ASPP,
    EPS,
    WIDTH,
    ResidualPair,
    after_aspp,
    classifier,
    difference,
    masked_average,
    merge,
    resized,
    unit_deviation,
)
from lerenet.models.peers.similar import PeerConfig, stretched_to_unit
from lerenet.models.segmenter import Loss, Segmenter, State, expand, masks_to_grid, to_grid

TRIPLET = 0.2  # weight of the triplet term


class TripletEncoder(nn.Module):
    """Top-down pyramid over levels 3, 2 and 1, one for query, support and normal image."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(size, width, 1) for size in channels)
        self.smooth = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, levels: list[Tensor], side: int) -> Tensor:
        """Levels (N, c_i, h_i, w_i), finest first -> (N, width, side, side)."""
        laterals = [lateral(level) for lateral, level in zip(self.lateral, levels, strict=True)]
        x = laterals[-1]
        for finer in reversed(laterals[:-1]):
            x = finer + resized(x, finer.shape[-1])
        out: Tensor = self.smooth(to_grid(x, side))
        return out


class GraphReasoning(nn.Module):
    """R(x; y): x and y projected on each other's nodes, reasoned over together, reflected on y."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.state = nn.Conv2d(width, width, 1)
        self.assign = nn.Conv2d(width, width, 1)
        self.mix = nn.Conv1d(2 * width, 2 * width, 1)
        self.theta = nn.Conv1d(width, width, 1, bias=False)
        self.reduce = nn.Conv1d(2 * width, width, 1)
        self.back = nn.Conv2d(width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width, eps=1e-4)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, c, h, w) -> state V and assignment P, both (B, c, l)."""
        return self.state(x).flatten(2), self.assign(x).flatten(2)

    def forward(self, x: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor], query: Tensor) -> Tensor:
        """V and P of x and of the query y, and the query (B, c, h, w) -> (B, c, h, w)."""
        (v_x, p_x), (v_y, p_y) = x, y
        nodes_x, nodes_y = v_x @ p_y.transpose(1, 2), v_y @ p_x.transpose(1, 2)  # (B, c, c), states x nodes
        nodes = torch.cat([nodes_x, nodes_y], dim=2).transpose(1, 2)  # (B, 2 c nodes, c states)
        mixed = F.relu(nodes + self.mix(nodes)).transpose(1, 2)  # (B, c states, 2 c nodes)
        reasoned = self.reduce(self.theta(mixed).transpose(1, 2))  # (B, c nodes, c states)
        reflected = (reasoned.transpose(1, 2) @ p_y).unflatten(2, query.shape[2:])
        out: Tensor = query + self.norm(self.back(reflected))
        return out


class Head(nn.Module):
    """Residual convolutions, ASPP and a classifier of two channels; shared by both answers."""

    def __init__(self, width: int, dropout: float, last: float) -> None:
        super().__init__()
        self.first = merge(width, width)
        self.pairs = nn.Sequential(ResidualPair(width), ResidualPair(width))
        self.aspp = ASPP(width, width, dropout)
        self.join = after_aspp(width, dropout)
        self.classify = classifier(width, dropout=last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, 2, h, w)."""
        x = self.pairs(x + self.first(x))
        two: Tensor = self.classify(self.join(self.aspp(x)))
        return two


def second_order(query: Tensor, other: Tensor) -> Tensor:
    """How alike each query place is to the best of the other's, both mapped by their common product first.

    With A (c, l) the query and B (c, l) the other: cosines between (A B^T) A and (A B^T) B.

    Returns:
        Of two (B, c, h, w): (B, 1, h, w) in [0, 1] on the query's grid; no gradient, single precision at least.
    """
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        a, b = full(query).flatten(2), full(other).flatten(2)  # (B, c, l)
        product = a @ b.transpose(1, 2)  # (B, c, c)
        a, b = unit(product @ a, 1), unit(product @ b, 1)
        best = torch.stack([(one.T @ two).amax(1) for one, two in zip(a, b, strict=True)])  # (B, l)
        near: Tensor = stretched_to_unit(best).unflatten(1, (1, *query.shape[2:])).to(query.dtype)
        return near


@register("tgrnet", PeerConfig)
class TGRNet(Segmenter):
    """Levels 1 to 3; the prior's scale starts at zero, and its sign is learned (one scale for both maps)."""

    reads = ("normal",)

    def __init__(self, config: PeerConfig, channels: Mapping[int, int], image_size: int) -> None:
        super().__init__(channels, config.levels or (1, 2, 3), image_size)
        self.side, width = config.side or 50, config.width or WIDTH
        dropout, last = (0.5, 0.1) if config.dropout is None else (config.dropout, config.dropout)
        self.scaled = config.scaled
        self.encoder = TripletEncoder(self.channels, width)
        self.reason = GraphReasoning(width)
        self.head = Head(width, dropout, last)
        self.scale = nn.Parameter(torch.zeros(()))

    def encode(self, support: Support) -> State:
        """Encoded support and normal image, (B, c, side, side); their means of the finest level, (B, c_1).

        The K masked supports are averaged level by level before they are encoded.
        """
        masks, shots = support.masks, support.masks.shape[:2]
        levels = [self._given(level.flatten(0, 1)).unflatten(0, shots) for level in support.levels]
        shares = [masks_to_grid(masks, level.shape[-1]).to(level.dtype)[:, :, None] for level in levels]
        masked = [level * share for level, share in zip(levels, shares, strict=True)]  # (B, K, c, h, w)
        normal = [self._given(level) for level in support.normal or without_defect(support.levels, masks)]
        return {
            "support": self.encoder([level.mean(1) for level in masked], self.side),
            "normal": self.encoder(normal, self.side),
            "defect_mean": full(masked[0]).sum((1, 3, 4)) / (full(shares[0]).sum((1, 3, 4)) + EPS),
            "normal_mean": full(normal[0]).mean((2, 3)),
        }

    def decode(self, state: State, query: list[Tensor]) -> Tensor:
        """State and query features (B, c, h, w) a level -> logits (B, image_size, image_size)."""
        return self.enlarge(difference(self._output(state, query)))

    def learn(self, batch: TrainingBatch, loss: Loss) -> Tensor:
        """Loss of the output + 0.2 of the triplet term.

        What is predicted as defect shall look like the support's defect on the finest level, what is
        predicted as background like the normal image: Euclidean distances of (soft) masked means, in units of the
        length of the support's or the normal image's own, for backbones differ in scale.
        """
        state = self.encode(batch.support)
        logit = difference(self._output(state, batch.query))  # (B, 1, side, side)
        total: Tensor = loss(self.enlarge(logit), batch.truth)
        finest = full(to_grid(self._given(batch.query[0]), self.side))
        logit = full(logit[:, 0])
        for sign, name in ((1.0, "defect_mean"), (-1.0, "normal_mean")):
            mine = masked_average(finest, torch.sigmoid(sign * logit))
            own = state[name]
            distance = (mine - own).norm(dim=1) / own.norm(dim=1).clamp_min(EPS)
            total = total + TRIPLET * distance.mean()
        return total

    def _given(self, level: Tensor) -> Tensor:
        """A level (N, c, h, w), with a standard deviation of 1 where that is asked for."""
        return unit_deviation(level) if self.scaled else level

    def _output(self, state: State, query: list[Tensor]) -> Tensor:
        """Two-channel output, (B, 2, side, side)."""
        x = self.encoder([self._given(level) for level in query], self.side)
        mine = self.reason.project(x)
        answers, priors = [], []
        for name in ("support", "normal"):
            other = expand(state[name], len(x))
            answers.append(self.head(self.reason(self.reason.project(other), mine, x)))
            priors.append(second_order(x, other))
        two: Tensor = answers[0] - answers[1] + self.scale * torch.cat(priors, dim=1)
        return two
