"""Multi-Prototype Reasoning, eq. 7 to 11: support and query related in graph space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lerenet.models.lerenet.gcn import GraphConvolution, NodeMixing


class MPR(nn.Module):
    """Local-view guidance P_main for the query's features.

    Nodes and states are both c wide; the two relations are (c x c), joined along the nodes to
    (c x 2c), reasoned over, and reduced to c nodes again so that eq. 11 is defined.
    """

    def __init__(self, width: int, authors: bool = False) -> None:
        super().__init__()
        self.authors = authors
        self.f_v = nn.Conv1d(width, width, 1)
        self.f_d = nn.Conv1d(width, width, 1)
        self.gcn = NodeMixing(2 * width, width) if authors else GraphConvolution(2 * width, width)
        self.reduce = nn.Conv1d(2 * width, width, 1)
        norm = nn.BatchNorm2d(width, eps=1e-4 if authors else 1e-5)
        self.tau = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), norm)
        if not authors:
            nn.init.zeros_(norm.weight)  # the module starts as the identity

    def encode(self, support: Tensor) -> tuple[Tensor, Tensor]:
        """Masked support (B, c, l) -> P_s^v, P_s^d (B, c, l): eq. 7 and 8."""
        return self.f_v(support), self.f_d(support)

    def relate(self, support: tuple[Tensor, Tensor], query: tuple[Tensor, Tensor]) -> Tensor:
        """Eq. 9 and 10, joined: G_sq (B, c, 2c)."""
        (s_v, s_d), (q_v, q_d) = support, query  # each (B, c, l)
        g_v = torch.bmm(s_d, q_v.transpose(1, 2))  # (B, d, v)
        g_d = torch.bmm(q_d, s_v.transpose(1, 2))  # (B, d, v)
        joined = torch.cat([g_v, g_d], dim=2)  # (B, d, 2v)
        return joined if self.authors else joined / q_v.shape[2]

    def forward(self, support: tuple[Tensor, Tensor], query: Tensor) -> Tensor:
        """P_s^v, P_s^d and X_q (B, c, h, w) -> P_main (B, c, h, w)."""
        flat = query.flatten(2)  # X_q, (B, c, l)
        q_v, q_d = self.encode(flat)
        graph = self.relate(support, (q_v, q_d))  # G_sq, (B, d, 2v)
        reasoned = self.reduce(self.gcn(graph.transpose(1, 2)))  # (B, v, d)
        reflected = torch.bmm(reasoned.transpose(1, 2), q_v)  # G P_q^v, (B, d, l)
        main: Tensor = query + self.tau(reflected.unflatten(2, query.shape[2:]))  # eq. 11
        return main
