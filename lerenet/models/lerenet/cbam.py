"""Convolutional block attention, eq. 4 and 5."""

from __future__ import annotations

from torch import Tensor, nn


class CBAM(nn.Module):
    """Channel gates from the average-pooled map, then one spatial gate."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.restore = nn.Conv2d(hidden, channels, 1)
        self.spatial = nn.Conv2d(channels, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, c, h, w)."""
        pooled = x.mean((2, 3), keepdim=True)  # avg(F), (B, c, 1, 1)
        x = x * self.restore(self.squeeze(pooled).relu()).sigmoid()  # eq. 4
        gated: Tensor = x * self.spatial(x).sigmoid()  # eq. 5
        return gated
