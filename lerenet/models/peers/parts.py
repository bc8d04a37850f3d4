"""What several peers share: masked average, ASPP, the feature enrichment of PFENet, classifiers.

Every map lives on one square grid (25 x 25 by default): the backbones are not dilated by default, so level 3
and 4 are brought up to it. A classifier gives two channels (background, foreground); their difference
is the logit, and two-channel cross entropy equals binary cross entropy on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.models.segmenter import to_grid

EPS = 5e-4  # of the masked average, as in the peers' code
WIDTH = 256


def masked_average(feature: Tensor, mask: Tensor) -> Tensor:
    """Masked average pooling: feature (N, c, h, w) under mask (N, h, w) -> prototype (N, c)."""
    mask = mask[:, None].to(feature.dtype)
    return (feature * mask).sum((2, 3)) / (mask.sum((2, 3)) + EPS)


def tile(prototype: Tensor, like: Tensor) -> Tensor:
    """(B, c) -> (B, c, h, w) with the grid of ``like``."""
    return prototype[:, :, None, None].expand(-1, -1, *like.shape[2:])


class ResidualPair(nn.Module):
    """x + ReLU(3 x 3(ReLU(3 x 3(x)))), without bias: the family's refinement."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, c, h, w)."""
        refined: Tensor = x + self.body(x)
        return refined


def reduce(inputs: int, width: int = WIDTH, dropout: float = 0.5, relu: bool = True) -> nn.Sequential:
    """1 x 1 without bias to ``width`` channels, ReLU, spatial dropout: the mid-level features."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, width, 1, bias=False)]
    layers += [nn.ReLU()] if relu else []
    return nn.Sequential(*layers, nn.Dropout2d(dropout))


def merge(inputs: int, width: int = WIDTH) -> nn.Sequential:
    """1 x 1 without bias, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.ReLU())


def classifier(width: int = WIDTH, out: int = 2, dropout: float = 0.1) -> nn.Sequential:
    """3 x 3 without bias, ReLU, spatial dropout, 1 x 1 to ``out`` maps."""
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.ReLU(), nn.Dropout2d(dropout),
        nn.Conv2d(width, out, 1),
    )  # fmt: skip


def difference(two: Tensor) -> Tensor:
    """Logit (B, 1, h, w) of two-channel output (B, 2, h, w)."""
    return two[:, 1:] - two[:, :1]


class ASPP(nn.Module):
    """Global average, 1 x 1 and 3 x 3 with dilation 6, 12, 18, each with ReLU; joined, (B, 5 width, h, w).

    Args:
        dropout: spatial dropout after each branch (CANet, TGRNet: 0.5; BAM, DCP: none).
    """

    def __init__(self, inputs: int = WIDTH, width: int = WIDTH, dropout: float = 0.0) -> None:
        super().__init__()
        convs = [nn.Conv2d(inputs, width, 1), nn.Conv2d(inputs, width, 1)]
        convs += [nn.Conv2d(inputs, width, 3, padding=d, dilation=d) for d in (6, 12, 18)]
        self.branches = nn.ModuleList(nn.Sequential(conv, nn.ReLU(), nn.Dropout2d(dropout)) for conv in convs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, 5 width, h, w)."""
        pooled = self.branches[0](x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return torch.cat([pooled, *(branch(x) for branch in self.branches[1:])], dim=1)


def after_aspp(width: int = WIDTH, dropout: float = 0.5) -> nn.Sequential:
    """1 x 1 from the branches of `ASPP` to ``width`` channels, ReLU, spatial dropout."""
    return nn.Sequential(nn.Conv2d(5 * width, width, 1), nn.ReLU(), nn.Dropout2d(dropout))


class FEM(nn.Module):
    """PFENet's feature enrichment: the query at several bins, merged from fine to coarse.

    Args:
        inputs: channels of the query, the guide and the maps together.
        bins: sides of the bins, finest first.
        dropout: spatial dropout in each side classifier.
    """

    def __init__(self, inputs: int, bins: Sequence[int], width: int = WIDTH, dropout: float = 0.1) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.initial = nn.ModuleList(merge(inputs, width) for _ in bins)
        self.between = nn.ModuleList(merge(2 * width, width) for _ in self.bins[1:])
        self.refine = nn.ModuleList(ResidualPair(width) for _ in bins)
        self.side = nn.ModuleList(classifier(width, dropout=dropout) for _ in bins)
        self.join = merge(len(self.bins) * width, width)
        self.after = ResidualPair(width)

    def forward(self, query: Tensor, guide: Tensor, maps: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Query (B, c, h, w), guide (B, c, h, w), maps (B, m, h, w) -> merged (B, width, h, w), side outputs.

        The side outputs are two-channel maps, one a bin, on the bin's own grid.
        """
        refined: list[Tensor] = []
        side: list[Tensor] = []
        for i, size in enumerate(self.bins):
            parts = [F.adaptive_avg_pool2d(query, size), to_grid(guide, size), resized(maps, size)]
            x = self.initial[i](torch.cat(parts, dim=1))
            if refined:
                x = x + self.between[i - 1](torch.cat([x, resized(refined[-1], size)], dim=1))
            refined.append(self.refine[i](x))
            side.append(self.side[i](refined[-1]))
        whole = query.shape[-1]
        merged = self.join(torch.cat([resized(x, whole) for x in refined], dim=1))
        return self.after(merged), side


def bins_of(side: int) -> tuple[int, int, int, int]:
    """The side, a half, a quarter and an eighth of it: 25, 13, 7, 4. The released 60, 30, 15, 8 are of 60 x 60."""
    return side, -(-side // 2), -(-side // 4), -(-side // 8)


def resized(x: Tensor, size: int) -> Tensor:
    """(B, c, h, h) -> (B, c, size, size), bilinear."""
    if x.shape[-1] == size:
        return x
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=True)


def unit_deviation(level: Tensor) -> Tensor:
    """Each map (N, c, h, w) divided by its own standard deviation, over channels and places; a flat one stays."""
    return level / deviation(level)


def deviation(level: Tensor) -> Tensor:
    """Standard deviation of each map (N, c, h, w) over channels and places, (N, 1, 1, 1); 1 for a flat one."""
    spread = level.float().std((1, 2, 3), correction=0, keepdim=True)
    return torch.where(spread > 0, spread, 1).to(level.dtype)


def side_by_side(levels: Sequence[Tensor], side: int, scaled: bool = False) -> Tensor:
    """Levels (N, c_i, h_i, w_i) brought to one grid, their channels joined: (N, sum of c_i, side, side).

    Args:
        scaled: bring each level of each image to a standard deviation of 1 first (`unit_deviation`).
    """
    given = [unit_deviation(level) for level in levels] if scaled else levels
    return torch.cat([to_grid(level, side) for level in given], dim=1)


class Middle(nn.Module):
    """Levels 2 and 3 on the grid, joined and reduced to 256 channels; ``scaled`` as in `side_by_side`."""

    def __init__(
        self, inputs: int, width: int = WIDTH, dropout: float = 0.5, relu: bool = True, scaled: bool = False
    ) -> None:
        super().__init__()
        self.scaled = scaled
        self.reduce = reduce(inputs, width, dropout, relu)

    def forward(self, levels: Sequence[Tensor], side: int) -> Tensor:
        """Levels (N, c_i, h_i, w_i) -> (N, width, side, side)."""
        joined: Tensor = self.reduce(side_by_side(levels, side, self.scaled))
        return joined
