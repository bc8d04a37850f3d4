"""HDMNet's transformer: patch embedding, self-attention, and cross attention from query to support."""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.models.descriptors import full

TEMPERATURE = 0.1  # of the matching's cosines
EPS = 1e-6  # of the layer norms


def last(x: Tensor) -> Tensor:
    """(N, c, h, w) -> (N, h, w, c)."""
    return x.permute(0, 2, 3, 1)


def first(x: Tensor) -> Tensor:
    """(N, h, w, c) -> (N, c, h, w)."""
    return x.permute(0, 3, 1, 2)


class Attending(nn.Module):
    """What both kinds of block share: norms, projections without bias, the residuals of attention and Mix-FFN."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = gcd(heads, dim)
        self.before, self.between = nn.LayerNorm(dim, EPS), nn.LayerNorm(dim, EPS)
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.drop = nn.Dropout(dropout)
        self.ffn = nn.Sequential(
            nn.Conv2d(dim, 4 * dim, 1), nn.Conv2d(4 * dim, 4 * dim, 3, padding=1, groups=4 * dim), nn.GELU(),
            nn.Dropout(dropout), nn.Conv2d(4 * dim, dim, 1), nn.Dropout(dropout),
        )  # fmt: skip

    def split(self, x: Tensor) -> Tensor:
        """(N, h, w, c) -> (N, heads, h w, c / heads)."""
        heads: Tensor = x.flatten(1, 2).unflatten(2, (self.heads, -1)).transpose(1, 2)
        return heads

    def close(self, x: Tensor, taken: Tensor) -> Tensor:
        """x (N, h, w, c) + what attention took, (N, heads, h w, c / heads), + Mix-FFN."""
        x = x + self.drop(self.o(taken.transpose(1, 2).reshape(x.shape)))
        changed: Tensor = x + last(self.ffn(first(self.between(x))))
        return changed


class Block(Attending):
    """Self-attention; keys and values come from a grid ``rate`` times coarser."""

    def __init__(self, dim: int, heads: int, rate: int, dropout: float) -> None:
        super().__init__(dim, heads, dropout)
        self.coarser = nn.Conv2d(dim, dim, rate, stride=rate) if rate > 1 else nn.Identity()
        self.norm = nn.LayerNorm(dim, EPS) if rate > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, c) -> (N, h, w, c)."""
        own = self.before(x)
        seen = self.norm(last(self.coarser(first(own))))
        q, k, v = self.split(self.q(own)), self.split(self.k(seen)), self.split(self.v(seen))
        return self.close(x, (q @ k.mT * q.shape[3] ** -0.5).softmax(3) @ v)


class DenseMatching(Attending):
    """Cross attention from query to support, the softmax over the query's places."""

    def keys(self, support: Tensor) -> tuple[Tensor, Tensor]:
        """Support (N, h, w, c) -> keys of unit length and values, (N, heads, h w, c / heads) each."""
        x = self.before(support)
        return F.normalize(full(self.split(self.k(x))), dim=3, eps=EPS), full(self.split(self.v(x)))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Query (B, h, w, c), support's foreground (B, n) -> (B, h, w, c), correlation map (B, 1, h, w)."""
        q = F.normalize(full(self.split(self.q(self.before(x)))), dim=3, eps=EPS)
        with torch.autocast(x.device.type, enabled=False):
            scores = q @ keys.mT / TEMPERATURE  # (B, heads, l, n)
            inside = inside[:, None, None].to(scores.dtype)  # (B, 1, 1, n)
            taken = (scores.softmax(2) * inside) @ values  # (B, heads, l, c / heads)
            correlation = ((scores * inside).sum(3) / inside.sum(3).clamp_min(1)).mean(1)  # (B, l)
        return self.close(x, taken.to(x.dtype)), correlation.unflatten(1, (1, *x.shape[1:3]))


class EncoderStage(nn.Module):
    """Patch embedding, two blocks."""

    def __init__(self, dim: int, kernel: int, heads: int, rate: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Conv2d(dim, dim, kernel, stride=1 if kernel == 1 else 2, padding=kernel // 2)
        blocks = (Block(dim, heads, rate, dropout) for _ in range(2))
        self.body = nn.Sequential(nn.LayerNorm(dim, EPS), *blocks, nn.LayerNorm(dim, EPS))

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, c) -> (N, h', w', c)."""
        encoded: Tensor = self.body(last(self.embed(first(x))))
        return encoded
