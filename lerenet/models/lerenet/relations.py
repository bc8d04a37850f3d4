"""LERENet's default: the paper's modules on relations instead of feature channels.

A small head that sees how alike support and query places are, and never what they look like, can't
memorise the base classes (docs/experiments.md gives what was measured). In the paper's terms:

- MPE*: excitation by the prototype, how strongly a place stands out, and D_cos, on all levels joined; in a
  prediction the edges and tones of the query's picture, too (`lerenet.models.refine`);
- MPR: reasoning in graph space, nodes the query's local descriptors, edges their own similarity
  (eq. 1 to 3): places of which the match is sure become the query's own prototypes, and a place which
  looks like a matched place is matched too;
- IFM: fusion, as a correction of the matcher's logits that starts at zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.models.baselines import MatchingConfig
from lerenet.models.batch import Support
from lerenet.models.config import Turns, register
from lerenet.models.descriptors import columns, nearest_mean, relate, stacked, strength
from lerenet.models.lerenet.gcn import smooth
from lerenet.models.lerenet.ifm import RelationFusion
from lerenet.models.lerenet.paper import PaperLERENet
from lerenet.models.lerenet.settings import LERENetConfig
from lerenet.models.segmenter import Segmenter, State, expand, masks_to_grid, shots_to_grid, to_grid

LEVELS = (2, 3, 4)
WIDEST = 1024  # channels; a wider level (ResNet's last) costs more to compare than it brings
NEIGHBOURS = 16
SHARPNESS = 10.0  # of the graph's edges
STATES = 16  # of a graph node
SURE = 0.5  # of the strongest match: from here on a place is one of the query's own prototypes
ROOM = 4.0  # times the expected area may be defect; what matches less is the query's own background
MOST = 0.6  # of the grid that may be defect
DROPOUT = 0.3  # of fusion channels
OWN = 0.3  # weight of the own prototypes at the start


def default_levels(channels: Mapping[int, int]) -> tuple[int, ...]:
    """The levels that the default reads, of those that a backbone gives (level -> channels)."""
    return tuple(level for level in LEVELS if channels.get(level, WIDEST + 1) <= WIDEST)


def matching_config(channels: Mapping[int, int], turns: Turns) -> MatchingConfig:
    """The floor that tells what the default's modules bring: matching on its levels and turns, no more."""
    return MatchingConfig(name="matching", levels=default_levels(channels) or None, turns=turns)


def edges_of(cosine: Tensor) -> tuple[Tensor, Tensor]:
    """Each node's 16 nearest others, and itself, in the query's graph.

    Args:
        cosine: between the query's descriptors, (B, l, l).

    Returns:
        Weights exp(10 (cosine - 1)) and neighbours, both (B, l, n).
    """
    top = cosine.topk(min(NEIGHBOURS + 1, cosine.shape[2]), dim=2)  # a node is nearest to itself
    return torch.exp(SHARPNESS * (top.values - 1)), top.indices.int()


def affinity(edges: Tensor, neighbours: Tensor) -> Tensor:
    """A of the query's graph, (B, l, l): symmetric, non-negative, 0 where no edge is.

    Args:
        edges, neighbours: of `edges_of`, (B, l, n).
    """
    batch, places, _ = edges.shape
    index = neighbours.long()
    graph = edges.new_zeros(batch, places, places)
    graph.scatter_(2, index, edges).scatter_(1, index.transpose(1, 2), edges.transpose(1, 2))
    graph.diagonal(dim1=1, dim2=2).zero_()
    return graph


def own_prototypes(matched: Tensor, cosine: Tensor, area: Tensor) -> Tensor:
    """The query matched with itself: nearest sure foreground minus nearest sure background.

    Sure foreground matches at least half as well as the five best places do. How much may be defect
    at all follows from the area that is matched now and from the support's (their geometric mean).

    Args:
        matched: foreground minus background similarity, (B, l).
        cosine: between the query's descriptors, (B, l, l).
        area: share of the support's images that is defect, (B,).

    Returns:
        (B, l).
    """
    places = matched.shape[1]
    best = matched.topk(min(5, places), dim=1).values  # (B, 5)
    sure = (matched > SURE * best.mean(1, keepdim=True)) & (matched > 0)
    sure = torch.where(sure.any(1, keepdim=True), sure, matched >= best[:, :1])
    now = (matched > 0).float().mean(1).clamp_min(1 / places)
    room = (ROOM * (now * area.clamp_min(0.5 / places)).sqrt()).clamp_max(MOST)  # (B,)
    rank = (room * places).long().clamp(1, places - 1)
    bar = matched.sort(dim=1, descending=True).values.gather(1, rank[:, None])
    return nearest_mean(*columns(cosine, sure)) - nearest_mean(cosine, matched <= bar)


class RelationReasoning(nn.Module):
    """MPR on relations: two graph convolutions over the query's own descriptors."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.tensor(OWN))  # how much the own prototypes say
        self.theta = nn.ModuleList([nn.Linear(inputs, STATES), nn.Linear(STATES, STATES)])

    def forward(self, maps: Tensor, graph: Tensor) -> Tensor:
        """H (B, inputs, l) and A (B, l, l) -> (B, STATES, l)."""
        h = maps.transpose(1, 2)  # (B, l, inputs)
        for theta in self.theta:
            h = F.relu(theta(smooth(graph, h)))  # eq. 3
        return h.transpose(1, 2)


class RelationLERENet(Segmenter):
    """Relations only, with the switches of Table 3.

    The matcher's map always enters; this is the ablation's baseline. ``mpe`` adds the prototype's map
    and the strength, ``edge`` (with ``mpe``: MPE*) the nearest-neighbour maps and the picture's edges and
    tones, ``mpr`` the query's own prototypes and the reasoned maps. No gradient reaches the backbone: its
    features are frozen.
    """

    works_untrained = True  # it starts as the matcher with the query's own prototypes
    relational = True

    def __init__(self, config: LERENetConfig, channels: Mapping[int, int], image_size: int) -> None:
        levels = config.levels or default_levels(channels) or LEVELS
        super().__init__(channels, levels, image_size)
        self.side, width = config.side or 25, config.width or 16
        self.concat = config.shot_fusion == "concat"
        self.mpe, self.edge = config.mpe, config.mpe and config.edge
        self.refined = self.edge
        inputs = 1 + 2 * int(self.mpe) + 2 * int(self.edge) + int(config.mpr)
        self.norm = nn.BatchNorm1d(inputs)
        self.mpr = RelationReasoning(inputs) if config.mpr else None
        dropout = DROPOUT if config.dropout is None else config.dropout
        self.ifm = RelationFusion(inputs + (STATES if config.mpr else 0), width, dropout)
        self.scale = nn.Parameter(torch.tensor(20.0))

    def encode(self, support: Support) -> State:
        """Support descriptors of all levels joined, (B, K, c, l), and the masks' shares, (B, K, l)."""
        levels = [shots_to_grid(level, self.side).flatten(3) for level in support.levels]
        return {"support": stacked(levels), "shares": masks_to_grid(support.masks, self.side).flatten(2)}

    def decode(self, state: State, query: list[Tensor]) -> Tensor:
        """Matcher's logits times a learned scale, plus the fusion's correction."""
        return self.answer(self.relate(state, query))

    @torch.no_grad()
    def relate(self, state: State, query: list[Tensor]) -> State:
        """Relation maps (B, inputs, l), the matcher's first, and with ``mpr`` the query's graph.

        The own prototypes' map is the last one; ``edges`` and ``neighbours`` as `edges_of` gives them.
        """
        own = stacked([to_grid(level, self.side).flatten(2) for level in query])  # (B, c, l)
        support, shares = (expand(state[name], len(own)) for name in ("support", "shares"))
        maps, descriptors = relate(own, support, shares, self.concat)
        matched = maps[:, 2:3]  # (B, 1, l): nearest foreground minus nearest background
        entries = [matched]
        if self.mpe:
            entries += [maps[:, 3:4], strength(own, support, shares)[:, None]]
        if self.edge:
            entries.append(maps[:, :2])
        if self.mpr is None:
            return {"maps": torch.cat(entries, dim=1)}
        cosine = torch.bmm(descriptors.transpose(1, 2), descriptors).to(matched.dtype)  # (B, l, l)
        entries.append(own_prototypes(matched[:, 0], cosine, shares.mean((1, 2)))[:, None])
        edges, neighbours = edges_of(cosine)
        return {"maps": torch.cat(entries, dim=1), "edges": edges, "neighbours": neighbours}

    def answer(self, relations: State) -> Tensor:
        """Relations of `relate` -> logits (B, image_size, image_size)."""
        maps = relations["maps"]
        matched, kept = maps[:, :1], self.norm(maps)
        if self.mpr is not None:
            graph = affinity(relations["edges"], relations["neighbours"])
            kept = torch.cat([kept, self.mpr(kept, graph)], dim=1)
            matched = torch.lerp(matched, maps[:, -1:], self.mpr.own)
        square = (self.side, self.side)
        correction = self.ifm(kept.unflatten(2, square))
        return self.enlarge(correction + self.scale * matched.unflatten(2, square))


@register("lerenet", LERENetConfig)
def lerenet(config: LERENetConfig, channels: Mapping[int, int], image_size: int) -> Segmenter:
    """LERENet in the reading that ``config.preset`` names."""
    reading = RelationLERENet if config.preset == "default" else PaperLERENet
    return reading(config, channels, image_size)
