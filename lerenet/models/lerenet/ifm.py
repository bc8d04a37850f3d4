"""Information Fusion Module, eq. 15: join the two views, residual convolutions, one map of logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """A pair of 3 x 3 convolutions beside the identity: ReLU(x + pair), the authors' x + ReLU(pair)."""

    def __init__(self, width: int, authors: bool = False) -> None:
        super().__init__()
        self.authors = authors
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, c, h, w)."""
        change = self.second(F.relu(self.first(x)))
        return x + F.relu(change) if self.authors else F.relu(x + change)


class IFM(nn.Module):
    """C (1 x 1 to c), Res and Cls of eq. 15.

    Args:
        inputs: channels of what is joined.
        pairs: residual pairs (two; the authors use one).
        dropout: before the last convolution.
        authors: their residual, dropout of whole channels, and a head that gives one map a class; the maps'
            difference is the logit, and two-channel cross entropy equals binary cross entropy on it.
    """

    def __init__(self, inputs: int, width: int, pairs: int, dropout: float, authors: bool = False) -> None:
        super().__init__()
        self.fuse = nn.Conv2d(inputs, width, 1, bias=False)
        self.residual = nn.Sequential(*(Residual(width, authors) for _ in range(pairs)))
        hidden = nn.Conv2d(width, width, 3, padding=1, bias=False)
        drop = nn.Dropout2d(dropout) if authors else nn.Dropout(dropout)
        self.classify = nn.Sequential(hidden, nn.ReLU(), drop, nn.Conv2d(width, 2 if authors else 1, 1))

    def forward(self, parts: list[Tensor]) -> Tensor:
        """Maps (B, c_i, h, w) -> logits (B, 1, h, w)."""
        fused = F.relu(self.fuse(torch.cat(parts, dim=1)))
        logits: Tensor = self.classify(self.residual(fused))
        return logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]


class DilatedResidual(nn.Module):
    """Two dilated 3 x 3 convolutions with group normalisation; the branch is zero at the start."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.norms = nn.ModuleList([nn.GroupNorm(min(8, width), width) for _ in range(2)])
        last = self.norms[1]
        assert isinstance(last, nn.GroupNorm)
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, c, h, w)."""
        inner = F.relu(self.norms[0](self.first(x)))
        return x + F.relu(self.norms[1](self.second(inner)))


class RelationFusion(nn.Module):
    """The default's IFM: relation maps in, a correction of the matcher's logits out (zero at the start)."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.fuse = nn.Conv2d(inputs, width, 1)
        self.residual = nn.Sequential(*(DilatedResidual(width, d) for d in (1, 2, 4)))
        self.dropout = nn.Dropout2d(dropout)
        self.last = nn.Conv2d(width, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, maps: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, 1, h, w)."""
        out: Tensor = self.last(self.residual(self.dropout(F.relu(self.fuse(maps)))))
        return out
