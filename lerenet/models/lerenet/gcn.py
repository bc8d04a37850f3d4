"""Graph convolution, eq. 1 to 3, in the two readings (docs/network.md)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

START = 1e-4  # spread of A at the start; its rows then sum to a few hundredths


def laplacian(adjacency: Tensor) -> Tensor:
    """Eq. 2: L~ = D~^-1/2 (I + A) D~^-1/2, with D~ the degrees of I + A.

    Args:
        adjacency: A, (..., n, n), symmetric and non-negative.
    """
    with_self = adjacency + torch.eye(adjacency.shape[-1], dtype=adjacency.dtype, device=adjacency.device)
    scale = with_self.sum(-1).rsqrt()  # D~^-1/2, (..., n)
    return scale[..., :, None] * with_self * scale[..., None, :]


def smooth(adjacency: Tensor, h: Tensor) -> Tensor:
    """L~ H of eq. 3 without writing L~ down: for a graph of each sample's own.

    Args:
        adjacency: A, (B, n, n), symmetric and non-negative.
        h: (B, n, states).
    """
    scale = (1 + adjacency.sum(-1, keepdim=True)).rsqrt()  # D~^-1/2, (B, n, 1)
    scaled = scale * h
    return scale * (torch.bmm(adjacency, scaled).to(h.dtype) + scaled)


class GraphConvolution(nn.Module):
    """Eq. 3: H' = relu(L~ H Theta), with a learned A: symmetric, non-negative, near 0 at the start."""

    def __init__(self, nodes: int, states: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.empty(nodes, nodes).normal_(std=START))
        self.theta = nn.Linear(states, states, bias=False)

    def adjacency(self) -> Tensor:
        """A, (nodes, nodes)."""
        return (self.raw + self.raw.T).abs() / 2

    def forward(self, h: Tensor) -> Tensor:
        """(B, nodes, states) -> (B, nodes, states)."""
        mixed = torch.matmul(laplacian(self.adjacency()).to(h.dtype), h)  # L~ H
        return F.relu(self.theta(mixed))


class NodeMixing(nn.Module):
    """The authors' form: 1 x 1 over nodes with a residual (I + A), ReLU, then 1 x 1 over states."""

    def __init__(self, nodes: int, states: int) -> None:
        super().__init__()
        self.nodes = nn.Conv1d(nodes, nodes, 1)
        self.theta = nn.Linear(states, states, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """(B, nodes, states) -> (B, nodes, states)."""
        out: Tensor = self.theta(F.relu(h + self.nodes(h)))
        return out
