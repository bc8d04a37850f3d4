"""ASGNet (CVPR 2021): as many prototypes as the defect's size asks for, and each query place takes its nearest.

Seeds are spread over the support's mask, superpixel-guided clustering (SGC) turns them into prototypes, and
guided prototype allocation (GPA) gives each place of the query the prototype with the highest cosine; then
PFENet's feature enrichment. Nothing of the support has a gradient: the query alone trains the reduction.
Here: the backbone is not dilated by default, so every level is brought to one grid; 100 cells a prototype are of a
60 x 60 grid, so 17 are asked for on 25 x 25; the distance transform is on the device, batched; its blur with
sigma 0.1, no blur at all, is left out. Of the two heads, the pyramid.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from lerenet.models.batch import Support
from lerenet.models.config import register
from lerenet.models.descriptors import full
from lerenet.models.peers.parts import Middle, masked_average
from lerenet.models.peers.pfenet import Pyramid
from lerenet.models.peers.similar import PeerConfig
from lerenet.models.segmenter import State, expand, masks_to_grid

MOST = 5  # prototypes of one support image
STEPS = {True: 10, False: 5}  # of clustering; in training, and not
EXACT = "donot_use_mm_for_euclid_dist"  # torch.cdist without cancellation
APART = 100.0  # squared distances on the grid are divided by it


def coordinates(height: int, width: int, like: Tensor) -> Tensor:
    """Row and column of each cell, (h w, 2)."""
    rows, columns = (torch.arange(size, device=like.device, dtype=like.dtype) for size in (height, width))
    return torch.cartesian_prod(rows, columns)


def spanned(line: Tensor) -> Tensor:
    """From the first true to the last of each line (N, n): (N, n)."""
    reached = line.cumsum(1)
    return (reached > 0) & (reached - line.long() < reached[:, -1:])


def place_seeds(mask: Tensor, most: int = MOST) -> Tensor:
    """Places deep inside the mask and far from one another: (N, h, w) in {0, 1} -> flat indices (N, most).

    Each is where the distance to the nearest background is largest (the first of equals); it then is background.
    What lies outside the mask's bounding box is none; a defect that fills its box has two opposite corners first.
    """
    inside = mask > 0  # (N, h, w)
    box = spanned(inside.any(2))[:, :, None] & spanned(inside.any(1))[:, None]
    cells = coordinates(mask.shape[1], mask.shape[2], mask)
    apart = torch.cdist(cells, cells, compute_mode=EXACT)  # (l, l)
    outer = (box & ~inside).flatten(1)  # (N, l)
    depth = torch.stack([apart.masked_fill(~one, torch.inf).amin(1) for one in outer])  # (N, l)
    depth = torch.where(inside.flatten(1), depth, -1)
    seeds = []
    for _ in range(most):
        seeds.append(depth.argmax(1))
        depth = torch.minimum(depth, apart[seeds[-1]])
    return torch.stack(seeds, dim=1)


def cluster(feature: Tensor, sure: Tensor, seeds: Tensor, steps: int) -> Tensor:
    """SGC: features (N, c, h, w), the places that count (N, h, w), seeds (N, n) -> prototypes (N, n, c).

    A step: association exp(-sqrt(|df|^2 + |dxy|^2 / 100)) of each centre with each place, normalised over the
    places; each centre becomes the mean under its association.
    """
    height, width = feature.shape[2:]
    where = coordinates(height, width, feature) / APART**0.5
    points = torch.cat([feature.flatten(2).transpose(1, 2), where.expand(len(feature), -1, -1)], dim=2)
    centres = points.gather(1, seeds[:, :, None].expand(-1, -1, points.shape[2]))  # (N, n, c + 2)
    out = ~sure.flatten(1)[:, None]  # (N, 1, l)
    lowest = torch.finfo(points.dtype).min
    for _ in range(steps):
        near = -torch.cdist(centres, points, compute_mode=EXACT)  # (N, n, l)
        centres = near.masked_fill(out, lowest).softmax(2) @ points
    return centres[:, :, :-2]


def allocate(query: Tensor, prototypes: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """GPA: each place's prototype with the highest cosine, and the sum of its cosines.

    Args:
        query: (B, c, h, w).
        prototypes: (B, n, c).
        real: which of them there are, (B, n).

    Returns:
        Guide (B, c, h, w), and the sum over the real prototypes (B, 1, h, w).
    """
    with torch.autocast(query.device.type, enabled=False):
        flat, each = F.normalize(full(query).flatten(2), dim=1), full(prototypes)
        cosine = F.normalize(each, dim=2) @ flat  # (B, n, l)
        best = cosine.masked_fill(~real[:, :, None], -torch.inf).argmax(1)  # (B, l)
        guide = each.gather(1, best[:, :, None].expand(-1, -1, each.shape[2])).transpose(1, 2)
        total = (cosine * real[:, :, None]).sum(1, keepdim=True)
        return guide.unflatten(2, query.shape[2:]), total.unflatten(2, query.shape[2:])


@register("asgnet", PeerConfig)
class ASGNet(Pyramid):
    """Levels 2 and 3, one reduction without ReLU for support and query, up to five prototypes a shot."""

    def __init__(self, config: PeerConfig, channels: Mapping[int, int], image_size: int) -> None:
        super().__init__(config, channels, (2, 3), image_size)
        self.cells = max(1, round(100 * self.side**2 / 60**2))  # of the grid for each prototype
        self.middle = Middle(sum(self.channels), self.width, self.dropout, relu=False, scaled=config.scaled)

    @torch.no_grad()
    def encode(self, support: Support) -> State:
        """Prototypes of all K shots, (B, 5 K, c), and which of them there are, (B, 5 K). No gradient.

        With 0 or 1 prototypes, or no place wholly inside the mask, a shot's only one is its masked average.
        """
        feature = full(
            self.middle([level.flatten(0, 1) for level in support.levels], self.side)
        )  # (B K, c, h, w)
        with torch.autocast(feature.device.type, enabled=False):
            masks = support.masks.to(feature.dtype)
            shares = masks_to_grid(masks, self.side, "bilinear").flatten(0, 1)  # (B K, h, w)
            mask = masks_to_grid(masks, self.side, "nearest").flatten(0, 1)
            sure = shares > 1 - 1e-5  # 1, but for rounding
            count = (mask.sum((1, 2)) / self.cells).round().clamp(1, MOST)
            count = torch.where(sure.any(2).any(1), count, 1)
            prototypes = cluster(feature, sure, place_seeds(mask), STEPS[self.training])  # (B K, 5, c)
            average = masked_average(feature, shares)[:, None]
            prototypes = torch.where((count == 1)[:, None, None], average, prototypes)
            real = torch.arange(MOST, device=feature.device) < count[:, None]  # (B K, 5)
        batch = support.masks.shape[:2]
        return {
            "prototypes": prototypes.unflatten(0, batch).flatten(1, 2),
            "real": real.unflatten(0, batch).flatten(1, 2),
        }

    def guided(self, state: State, query: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The query's middle features, the nearest prototype at every place, the sum of the cosines."""
        x = self.middle(query, self.side)  # (B, c, h, w)
        guide, total = allocate(x, expand(state["prototypes"], len(x)), expand(state["real"], len(x)))
        return x, guide.to(x.dtype), total.to(x.dtype)
