"""What a dilated network of timm needs to see as the undilated one does.

Dilation takes apart what the smaller map had side by side: every 2nd place of the larger map must have what the
small one has. timm dilates the convolutions so, but not the mean pools on the shortcuts of its ``d`` ResNets: they
go on joining direct neighbours, and count places beyond the lower and right border as zero.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SpreadPool(nn.Module):
    """Mean of 2 x 2 places that lie ``apart`` from one another; beyond the border, the border's value.

    Args:
        apart: Places from one to the next; 1: neighbours.
    """

    def __init__(self, apart: int) -> None:
        super().__init__()
        self.apart = apart

    def forward(self, maps: Tensor) -> Tensor:
        """(N, c, h, w) -> (N, c, h, w)."""
        n = self.apart
        padded = F.pad(maps, (0, n, 0, n), mode="replicate")
        rows = padded[..., n:, :] + padded[..., :-n, :]
        return (rows[..., n:] + rows[..., :-n]) / 4


def spread_pools(body: nn.Module) -> None:
    """Replace, in place, the mean pools that stand where a dilated ``body`` would have halved its maps."""
    from timm.layers.pool2d_same import AvgPool2dSame

    apart = 1  # in the first stage that is dilated the map is still as it was
    for parent in list(body.modules()):
        for name, pool in parent.named_children():
            if isinstance(pool, AvgPool2dSame) and (pool.kernel_size, pool.stride) == ((2, 2), (1, 1)):
                setattr(parent, name, SpreadPool(apart))
                apart *= 2
