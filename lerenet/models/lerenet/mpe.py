"""Multi-Prototype Excitation, eq. 12 to 14: the support's prototype excites the query's features."""

from __future__ import annotations

from torch import Tensor, nn

from lerenet.models.lerenet.cbam import CBAM


def prototype(support: Tensor, area: Tensor | None) -> Tensor:
    """Eq. 12: X_proj (B, c) of masked support (B, c, l).

    Args:
        area: sum of the mask on the grid, (B,); None: the plain mean over the grid (`authors`).
    """
    if area is None:
        return support.mean(2)
    return support.sum(2) / area.clamp_min(1e-6)[:, None]


class MPE(nn.Module):
    """Global-view guidance P_e: excitation by the prototype (eq. 13), then CBAM (eq. 4, 5)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cbam = CBAM(width)

    def forward(self, proj: Tensor, query: Tensor) -> Tensor:
        """X_proj (B, c) and X_q (B, c, h, w) -> P_e (B, c, h, w)."""
        guided = proj[:, :, None, None] * query  # eq. 13, channel by channel
        excited: Tensor = self.cbam(guided)
        return excited
