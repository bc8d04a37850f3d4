"""HDMNet (CVPR 2023): hierarchical dense matching by a transformer, taught by distilled correlation maps.

Query and support pass a three-stage encoder, each by itself; in each stage the query takes from the support's
foreground by cosine attention that competes over the query's places. The coarsest stage's correlation map
learns from the mask, each finer one from the next coarser. BAM's base learner and ensemble close it.
Here: the backbone is not dilated by default, so every level is brought to one grid; batch norm learns its
statistics (the released training froze it at 0 and 1 by oversight), and the shots' weights learn, too; a stage's
foreground is the cells more than half defect, or the fullest; the weights of K shots are BAM's. Our reading: the
correlation map is the mean cosine / 0.1, before the softmax. Each shot stands beside its own prototype, the query
beside their mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.models.batch import Support
from lerenet.models.config import register
from lerenet.models.descriptors import split_positions
from lerenet.models.peers.bam import BaseAware
from lerenet.models.peers.ensemble import gram
from lerenet.models.peers.parts import deviation, masked_average, merge, resized, tile
from lerenet.models.peers.similar import Similar, SimilarConfig, centred_prior, prior
from lerenet.models.peers.transformer import DenseMatching, EncoderStage, first, last
from lerenet.models.segmenter import State, expand, masks_to_grid, to_grid

STAGES = ((1, 2, 4), (3, 4, 2), (3, 8, 1))  # embedding's kernel, heads, reduction of keys and values
NEVER = -1e9


def linear_head(dim: int, width: int, out: int) -> nn.Sequential:
    """1 x 1, batch norm, 3 x 3, batch norm, 1 x 1."""
    return nn.Sequential(
        nn.Conv2d(dim, width, 1), nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1),
        nn.BatchNorm2d(width), nn.Conv2d(width, out, 1),
    )  # fmt: skip


def distillation(maps: list[Tensor], truth: Tensor) -> Tensor:
    """Mean KL(teacher || map), softmax over the places; maps (B, 1, s, s) fine to coarse, truth (B, H, W).

    The mask, uniform over its foreground, teaches the coarsest; each map, without gradient, the next finer.
    """
    inside, _ = split_positions(masks_to_grid(truth.clamp_min(0)[:, None], maps[-1].shape[3]).flatten(2))
    teacher = torch.zeros_like(maps[-1]).flatten(1).masked_fill(~inside, NEVER)  # (B, l)
    total, finer = truth.new_zeros(()), [*(one.shape[3] for one in maps[-2::-1]), 1]
    for one, side in zip(maps[::-1], finer, strict=True):
        student = one.flatten(1).log_softmax(1)
        total = total + F.kl_div(student, teacher.softmax(1), reduction="batchmean")
        teacher = to_grid(one.detach(), side).flatten(1)
    return total / len(maps)


@register("hdmnet", SimilarConfig)
class HDMNet(BaseAware):
    """Levels 2 and 3 are the middle features; similarity from level 4 and the base learner's map; level 2 psi.

    The support's features are of the image with all but the defect blacked out, but for those of a centred prior.
    """

    def __init__(self, config: SimilarConfig, channels: Mapping[int, int], image_size: int) -> None:
        super().__init__(config, channels, image_size)
        rate, dim = 0.1 if config.dropout is None else config.dropout, max(1, self.width // 4)
        sides = (self.side, -(-self.side // 2), -(-self.side // 4))
        self.similar, self.scaled = Similar(config.prior, self.side), config.scaled
        self.support_middle.scaled = (
            False  # `encode` divides by what the whole image has, not the blacked-out one
        )
        self.query_merge, self.support_merge = merge(2 * self.width + 2, dim), merge(2 * self.width, dim)
        self.stages = nn.ModuleList(
            EncoderStage(dim, kernel, heads, min(coarser, side), rate)
            for (kernel, heads, coarser), side in zip(STAGES, sides, strict=True)
        )
        self.matching = nn.ModuleList(DenseMatching(dim, 2, rate) for _ in STAGES)
        self.fuse = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim + 2, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim), nn.ReLU())
            for _ in STAGES
        )
        self.parse = nn.ModuleList(
            nn.Sequential(*linear_head(dim, self.width, dim), nn.BatchNorm2d(dim), nn.ReLU()) for _ in STAGES
        )
        self.classify = linear_head(dim, self.width, 2)

    def encode(self, support: Support) -> State:
        """Mean prototype (B, c), highest level and base learner's map under the mask, each stage's tokens."""
        masks, given = support.masks, support.masked or support.levels
        batch = masks.shape[:2]
        shares = masks_to_grid(masks, self.side, "bilinear").flatten(0, 1)[:, None].to(given[0].dtype)
        levels = [to_grid(level.flatten(0, 1), self.side) for level in given]  # (B K, c, h, w)
        levels = levels if support.masked else [level * shares for level in levels]
        with torch.no_grad():
            base_map = self.base.features(levels[-1])
        middle = levels[:-1] or levels
        if self.scaled:
            whole = (deviation(level.flatten(0, 1)) for level in support.levels)
            middle = [level / one for level, one in zip(middle, whole, strict=False)]
        x = self.support_middle(middle, self.side)
        prototypes = masked_average(x, shares[:, 0])  # (B K, c)
        x = self.support_merge(torch.cat([x, tile(prototypes, x)], dim=1))
        inside = masks_to_grid(masks, self.side, "nearest").flatten(0, 1)[:, None].to(shares.dtype)
        high = {"like": (levels[-1] * inside).detach().unflatten(0, batch)}
        state = {
            **(self.similar.keep(support) if self.similar.source == "centred" else high),
            "prototype": prototypes.unflatten(0, batch).mean(1),
            "known": (base_map * inside).unflatten(0, batch),
            "styles": gram(levels[0]).unflatten(0, batch),
        }
        x = last(x)  # (B K, h, w, c)
        for i, (stage, matching) in enumerate(zip(self.stages, self.matching, strict=True)):
            x = stage(x)
            assert isinstance(matching, DenseMatching)
            each = (part.unflatten(0, batch).transpose(1, 2).flatten(2, 3) for part in matching.keys(x))
            state[f"keys_{i}"], state[f"values_{i}"] = each  # (B, heads, K l, c / heads)
            state[f"inside_{i}"] = split_positions(masks_to_grid(masks, x.shape[2]).flatten(2))[0]  # (B, K l)
        return state

    def meta(
        self, state: State, query: list[Tensor], base_map: Tensor, weights: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Matching in every stage, then a decoder from coarse to fine; the stages' correlation maps."""
        x = self.query_middle(query[:-1] or query, self.side)  # (B, c, h, w)
        held = {name: expand(value, len(x)) for name, value in state.items()}
        own = to_grid(self.similar.level(query), self.side)
        if self.similar.source == "centred":
            high = centred_prior(own, held["like"], held["inside"])
        else:
            high = prior(own, held["like"], normalise=False)
        alike = torch.cat([prior(base_map, held["known"], normalise=False), high], dim=1).to(
            x.dtype
        )  # (B, 2, h, w)
        x = self.query_merge(torch.cat([x, tile(held["prototype"].to(x.dtype), x), 10 * alike], dim=1))
        x, fused, maps = last(x), [], []
        for i, (stage, matching, fuse) in enumerate(zip(self.stages, self.matching, self.fuse, strict=True)):
            x = stage(x)
            matched, correlation = matching(x, held[f"keys_{i}"], held[f"values_{i}"], held[f"inside_{i}"])
            fused.append(fuse(torch.cat([first(matched), resized(alike, x.shape[2])], dim=1)))
            maps.append(correlation)
        out = self.parse[2](fused[2])
        for parse, one in zip(self.parse[1::-1], fused[1::-1], strict=True):
            up = to_grid(out, one.shape[3])
            out = up + parse(one + up)
        return self.classify(out), maps

    def side_loss(self, maps: list[Tensor], truth: Tensor) -> Tensor:
        """Distillation of the correlation maps."""
        return distillation(maps, truth)
