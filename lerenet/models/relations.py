"""LERENet's default: the paper's modules on relations instead of feature channels.

A small head that sees how alike support and query places are, and never what they look like, can't
memorise the base classes (docs/network.md gives what was measured). In the paper's terms:

- MPE*: excitation by the prototype and D_cos, for each backbone level and for all levels joined;
- MPR: reasoning in graph space, nodes the query's local descriptors, edges their own similarity,
  so that a place which looks like a matched place is matched too (eq. 1 to 3);
- IFM: fusion, as a correction of the matcher's logits that starts at zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.errors import ModelError
from lerenet.models.base import Segmenter, State, expand, masks_to_grid, shots_to_grid, to_grid
from lerenet.models.descriptors import MAPS, relate, stacked
from lerenet.models.gcn import laplacian
from lerenet.models.ifm import RelationFusion
from lerenet.params import ModelConfig

LEVELS = (1, 2, 3, 4)
NEIGHBOURS = 16
STATES = 16  # of a graph node


def affinity(descriptors: Tensor, sharpness: Tensor) -> Tensor:
    """A of the query's graph: symmetric, non-negative, each node's 16 nearest others.

    Args:
        descriptors: (B, c, l) of unit length.
        sharpness: scalar; weights are exp(sharpness (cos - 1)).

    Returns:
        (B, l, l).
    """
    cosine = torch.bmm(descriptors.transpose(1, 2), descriptors)  # (B, l, l)
    count = min(NEIGHBOURS + 1, cosine.shape[2])
    kept = cosine >= cosine.topk(count, dim=2).values[:, :, -1:]
    kept = (kept | kept.transpose(1, 2)) & ~torch.eye(cosine.shape[2], dtype=torch.bool, device=cosine.device)
    return torch.exp(sharpness * (cosine - 1)) * kept


class RelationReasoning(nn.Module):
    """MPR on relations: two graph convolutions over the query's own descriptors."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(10.0))
        self.theta = nn.ModuleList([nn.Linear(inputs, STATES), nn.Linear(STATES, STATES)])

    def forward(self, maps: Tensor, descriptors: Tensor) -> Tensor:
        """H (B, inputs, l) and descriptors (B, c, l) -> (B, STATES, l)."""
        graph = laplacian(affinity(descriptors, self.sharpness.clamp(1.0, 30.0)))  # (B, l, l), eq. 2
        h = maps.transpose(1, 2)  # (B, l, inputs)
        for theta in self.theta:
            h = F.relu(theta(torch.bmm(graph, h.to(graph.dtype))))  # eq. 3
        return h.transpose(1, 2)


class RelationLERENet(Segmenter):
    """Relations only, with the switches of Table 3.

    The maps of the joined matcher always enter; this is the ablation's baseline. ``mpe`` adds the
    prototype's map of every level, ``edge`` (with ``mpe``: MPE*) the nearest-neighbour maps of every
    level, ``mpr`` the reasoned maps. No gradient reaches the backbone: its features are frozen.
    """

    def __init__(self, config: ModelConfig, channels: Mapping[int, int], image_size: int) -> None:
        if config.edge_form not in (None, "descriptor"):
            raise ModelError(
                f"edge_form {config.edge_form!r} needs feature channels; the default preset has none",
                "set `preset: paper` or `preset: authors` in the recipe's model, or leave edge_form out",
            )
        levels = config.levels or tuple(level for level in LEVELS if level in channels) or LEVELS
        super().__init__(channels, levels, image_size)
        self.grid, width = config.grid or 25, config.width or 64
        self.concat = config.shots == "concat"
        guides = len(self.levels) + 1
        self.kept = self._kept(config, guides)
        inputs = len(self.kept)
        self.norm = nn.BatchNorm1d(inputs)
        self.mpr = RelationReasoning(inputs) if config.mpr else None
        self.ifm = RelationFusion(inputs + (STATES if config.mpr else 0), width, config.dropout)
        self.scale = nn.Parameter(torch.tensor(20.0))

    @staticmethod
    def _kept(config: ModelConfig, guides: int) -> list[int]:
        """Which of the guides' maps enter; the last guide (all levels joined) is the matcher."""
        kept = set(range(MAPS * (guides - 1), MAPS * guides - 1))
        if config.mpe:
            kept |= set(range(0 if config.edge else MAPS - 1, MAPS * guides, 1 if config.edge else MAPS))
        return sorted(kept)

    def encode(self, support: list[Tensor], masks: Tensor) -> State:
        """Support descriptors of every level, (B, K, c_i, l), and the masks' shares, (B, K, l)."""
        levels = [shots_to_grid(level, self.grid).flatten(3) for level in support]
        state: State = {f"level{i}": level for i, level in enumerate(levels)}
        state["shares"] = masks_to_grid(masks, self.grid).flatten(2)
        return state

    def guides(self, state: State, query: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Relation maps (B, 4 guides, l), and the query's joined descriptors (B, c, l)."""
        own = [to_grid(level, self.grid).flatten(2).float() for level in query]  # (B, c_i, l)
        batch = len(own[0])
        other = [expand(state[f"level{i}"], batch).float() for i in range(len(own))]  # (B, K, c_i, l)
        shares = expand(state["shares"], batch)
        pairs = [*zip(own, other, strict=True), (stacked(own), stacked(other))]
        found = [relate(q, s, shares, self.concat) for q, s in pairs]
        return torch.cat([maps for maps, _ in found], dim=1), found[-1][1]

    def decode(self, state: State, query: list[Tensor]) -> Tensor:
        """Matcher's logits times a learned scale, plus the fusion's correction."""
        with torch.no_grad(), torch.autocast(query[0].device.type, enabled=False):
            maps, descriptors = self.guides(state, query)
        matched = maps[:, -2:-1]  # (B, 1, l): nearest foreground minus nearest background, all levels
        kept = self.norm(maps[:, self.kept])
        if self.mpr is not None:
            with torch.autocast(query[0].device.type, enabled=False):
                kept = torch.cat([kept, self.mpr(kept.float(), descriptors)], dim=1)
        square = (self.grid, self.grid)
        correction = self.ifm(kept.unflatten(2, square))
        return self.enlarge(correction + self.scale * matched.unflatten(2, square))
