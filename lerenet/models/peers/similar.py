"""Where a query looks like the support's defect before anything is trained: the prior of PFENet, BAM, DCP, HDMNet.

As released it compares the highest level of the query with that of the support, all but the defect blacked out. On an
undilated backbone that level has 7 x 7 places, and what is compared is not centred: on the real images of this project
its AUC of pixels is 0.55, near chance, where level 3, centred on the pair's mean, has 0.71 (0.84 with level 2 beside).
So a recipe may ask for that one instead (`SimilarConfig.prior`).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lerenet.models.batch import Support
from lerenet.models.config import HeadConfig
from lerenet.models.descriptors import centred, full, nearest_mean, similarity_to, split_positions
from lerenet.models.segmenter import State, expand, masks_to_grid, shots_to_grid, to_grid

Source = Literal["highest", "centred"]
STRENGTH = 5.0  # of the centred cosines in a prior: they span a fifth of what features of deviation 1 do


class PeerConfig(HeadConfig):
    """Of every peer. ``scaled``: each level of each image has a standard deviation of 1; as released they have not."""

    scaled: bool = False


class SimilarConfig(PeerConfig):
    """Of a peer with a prior: of the highest level, as released, or of the last but one, centred."""

    prior: Source = "highest"


def stretched_to_unit(maps: Tensor) -> Tensor:
    """Each map (..., l) brought to [0, 1] by its own minimum and maximum; a flat one is 0."""
    low, high = maps.amin(-1, keepdim=True), maps.amax(-1, keepdim=True)
    return (maps - low) / (high - low + 1e-7)


def prior(query: Tensor, support: Tensor, normalise: bool = True) -> Tensor:
    """PFENet's prior: how alike each query place is to the most similar place of the masked support.

    Args:
        query: highest level of the query, (B, c, h, w).
        support: the same level of the K support images with all but the defect blacked out,
            multiplied by the mask again, (B, K, c, h, w).
        normalise: bring each map to [0, 1] by its own minimum and maximum.

    Returns:
        Mean over the K shots, (B, 1, h, w). No gradient; in at least single precision, under autocast too.
    """
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        q = F.normalize(full(query).flatten(2), dim=1, eps=1e-7)  # (B, c, l)
        s = F.normalize(full(support).flatten(3), dim=2, eps=1e-7)  # (B, K, c, l)
        best = torch.einsum("bcl,bkcm->bklm", q, s).amax(3)  # (B, K, l)
        best = stretched_to_unit(best) if normalise else best
        near: Tensor = best.mean(1).unflatten(1, (1, *query.shape[2:])).to(query.dtype)
        return near


def centred_prior(query: Tensor, support: Tensor, shares: Tensor) -> Tensor:
    """Cosine of each query place to the most similar place of the support's defect, both centred on their mean.

    Args:
        query: a level of the query, (B, c, h, w).
        support: the same level of the K support images, not blacked out, (B, K, c, h, w).
        shares: the defect's share of each of its cells, (B, K, h, w).

    Returns:
        Mean over the K shots, (B, 1, h, w). No gradient; in at least single precision, under autocast too.
    """
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        shots = support.shape[1]
        own, other = centred(
            query.flatten(2).repeat_interleave(shots, dim=0), support.flatten(3).flatten(0, 1)
        )  # (B K, c, l)
        inside, _ = split_positions(full(shares).flatten(2).flatten(0, 1)[:, None])  # (B K, l)
        best = nearest_mean(*similarity_to(own.transpose(1, 2), other, inside), nearest=1)  # (B K, l)
        near: Tensor = best.unflatten(0, (-1, shots)).mean(1).unflatten(1, (1, *query.shape[2:]))
        return near.to(query.dtype)


class Similar:
    """What a head keeps of the support for its prior, and the prior of a query.

    Args:
        source: see `SimilarConfig`.
        side: of the grid.
    """

    def __init__(self, source: Source, side: int) -> None:
        self.source, self.side = source, side

    def level(self, levels: list[Tensor]) -> Tensor:
        """The level that is compared: the last, or the last but one where it is centred (a single one is both)."""
        return levels[-1] if self.source == "highest" else levels[-2:][0]

    def keep(self, support: Support) -> State:
        """The K shots' level on the grid, (B, K, c, side, side), under the mask, or with the mask beside it."""
        if self.source == "centred":
            whole = shots_to_grid(self.level(support.levels), self.side)
            return {"like": whole.detach(), "inside": masks_to_grid(support.masks, self.side)}
        high = shots_to_grid(self.level(support.masked or support.levels), self.side)
        shares = masks_to_grid(support.masks, self.side, "bilinear").to(high.dtype)  # (B, K, side, side)
        return {"like": (high * shares[:, :, None]).detach()}

    def __call__(self, state: State, query: list[Tensor]) -> Tensor:
        """Mean over the K shots, (B, 1, side, side), of query features (B, c, h, w) a level."""
        own = to_grid(self.level(query), self.side)
        like = expand(state["like"], len(own))
        if self.source == "centred":
            return STRENGTH * centred_prior(own, like, expand(state["inside"], len(own)))
        return prior(own, like)

    def each(self, state: State, query: list[Tensor]) -> Tensor:
        """The same for each shot alone, (B, K, side, side)."""
        size, shots = len(query[0]), state["like"].shape[1]
        kept: State = {name: value for name, value in state.items() if name in ("like", "inside")}
        alone: State = {name: expand(value, size).flatten(0, 1)[:, None] for name, value in kept.items()}
        maps: Tensor = self(
            alone, [level.repeat_interleave(shots, dim=0) for level in query]
        )  # (B K, 1, h, w)
        return torch.unflatten(maps[:, 0], 0, (size, shots))
