"""What BAM and HDMNet share: a base learner that knows the training classes, and how its answer is used.

The base learner (PSPNet's head) names the base class at each place. It is trained before the episodes
(`lerenet.training.base_learner`), then frozen; where it sees a base class, a novel defect is less likely.
psi tells how unlike the styles of query and support are; two tiny linear maps join psi, the base
learner's answer and the episode's own (meta) answer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.models.descriptors import full
from lerenet.models.peers.parts import WIDTH
from lerenet.models.segmenter import to_grid

SLOTS = 16  # outputs of the base learner: the background, the base classes in sorted order, places never used
BINS = (1, 2, 3, 6)
SHOTS = 5  # for which the weighting of the shots is made


class Norm(nn.BatchNorm2d):
    """Batch norm that takes its running statistics where one value a channel (one image, bin 1) has none."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, h, w) -> (N, c, h, w)."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class BaseLearner(nn.Module):
    """PSPNet's head on the highest level: its means over 1, 4, 9 and 36 windows beside it, then a classifier."""

    def __init__(self, inputs: int, side: int, width: int = WIDTH) -> None:
        super().__init__()
        self.side, hidden = side, 2 * width
        self.bins = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(size), nn.Conv2d(inputs, hidden, 1, bias=False), Norm(hidden), nn.ReLU()
            )
            for size in BINS
        )
        joined = inputs + len(BINS) * hidden
        self.join = nn.Sequential(nn.Conv2d(joined, hidden, 3, padding=1, bias=False), Norm(hidden))
        self.classify = nn.Sequential(nn.ReLU(), nn.Dropout2d(0.1), nn.Conv2d(hidden, SLOTS, 1))

    def features(self, level: Tensor) -> Tensor:
        """Highest level (B, c, h, w) -> (B, 2 width, side, side), before the ReLU: HDMNet's feat5."""
        x = to_grid(level, self.side)
        side = (self.side, self.side)
        parts = [F.interpolate(one(x), side, mode="bilinear", align_corners=True) for one in self.bins]
        joined: Tensor = self.join(torch.cat([x, *parts], dim=1))
        return joined

    def forward(self, level: Tensor) -> Tensor:
        """Highest level (B, c, h, w) -> logits (B, SLOTS, side, side)."""
        logits: Tensor = self.classify(self.features(level))
        return logits


def base_probability(logits: Tensor, slot: Tensor | None = None) -> Tensor:
    """How likely each place shows a base class: (B, SLOTS, h, w) -> (B, 1, h, w).

    Args:
        slot: the place of the episode's own class, which does not count, (B,); None: all count, as at test time.
    """
    chance = full(logits).softmax(1)[:, 1:]
    if slot is not None:
        others = torch.arange(1, SLOTS, device=slot.device) != slot[:, None]  # (B, SLOTS - 1)
        chance = chance * others[:, :, None, None]
    return chance.sum(1, keepdim=True)


@torch.no_grad()
def gram(feature: Tensor) -> Tensor:
    """Cosines of the channels with one another: (N, c, h, w) -> (N, c, c)."""
    with torch.autocast(feature.device.type, enabled=False):
        flat = full(feature).flatten(2)
        length = flat.norm(dim=2, keepdim=True)  # (N, c, 1)
        cosines: Tensor = flat @ flat.mT / (length @ length.mT + 1e-7)
        return cosines


def psi(query: Tensor, support: Tensor) -> Tensor:
    """How unlike the query's Gram matrix (B, c, c) is to each shot's (B, K, c, c): (B, K), 0 if they agree."""
    distance: Tensor = (query[:, None] - support).flatten(2).norm(dim=2) / query.shape[1]
    return distance


def stretched(values: Tensor, size: int) -> Tensor:
    """(B, n) -> (B, size), linear between the first and the last."""
    return F.interpolate(values[:, None], size, mode="linear", align_corners=True)[:, 0]


class BaseEnsemble(nn.Module):
    """The meta answer under psi (G), its background joined with the base learner's answer (E); shots' weights.

    G and E start as [1, 0], so at first the meta answer passes alone. The weighting of the shots is made for 5;
    another K is stretched to 5 and back. Its last layer starts at zero: untrained, all shots count alike.
    """

    def __init__(self) -> None:
        super().__init__()
        self.g, self.e = nn.Conv2d(2, 1, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False)
        last = nn.Linear(2, SHOTS)
        self.judge = nn.Sequential(nn.Linear(SHOTS, 2), nn.ReLU(), last)
        with torch.no_grad():
            for conv in (self.g, self.e):
                conv.weight.copy_(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def weigh(self, styles: Tensor) -> Tensor:
        """psi of the K shots (B, K) -> their weights (B, K), which sum to 1: by rank, the most alike first."""
        with torch.autocast(styles.device.type, enabled=False):
            ranked, order = styles.sort(dim=1, stable=True)
            scores = stretched(self.judge(stretched(ranked, SHOTS)), styles.shape[1])
            return torch.zeros_like(scores).scatter(1, order, scores).softmax(1)

    def forward(self, meta: Tensor, style: Tensor, base_chance: Tensor) -> Tensor:
        """Meta output (B, 2, h, w), psi (B,), base probability (B, 1, h, w) -> two-channel output (B, 2, h, w)."""
        with torch.autocast(meta.device.type, enabled=False):
            chance = full(meta).softmax(1)
            beside = style[:, None, None, None].expand_as(base_chance)
            background, foreground = (
                self.g(torch.cat([one, beside], dim=1)) for one in chance.split(1, dim=1)
            )
            return torch.cat([self.e(torch.cat([background, base_chance], dim=1)), foreground], dim=1)
