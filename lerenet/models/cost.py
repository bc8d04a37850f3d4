"""What a network costs: parameters, and FLOPs by torch's counter (2 a multiply-add)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from lerenet.models import create_model
from lerenet.models.backbones import AUTHORS, create_backbone
from lerenet.models.base import parameters_of
from lerenet.models.network import Network
from lerenet.params import ModelConfig


@dataclass(frozen=True)
class Cost:
    """Parameters of the head, and with the executed backbone; GFLOPs of an episode and an enrolled query."""

    head_parameters: int
    all_parameters: int
    episode_gflops: float
    enrolled_gflops: float


def measure_cost(config: ModelConfig, backbone: str, shots: int = 1, image_size: int = 200) -> Cost:
    """Count one episode of K supports and one query, and a query alone when the support is enrolled.

    Convolutions and matrix products are counted; norms, activations, sorting and resizing are not.
    """
    if config.preset == "authors" and f"{backbone}_authors" in AUTHORS:
        backbone = f"{backbone}_authors"  # their stem is twice as wide as timm's
    levels = sorted({1, 2, 3, 4, *(config.levels or ())})
    full = create_backbone(backbone, "random", levels)
    head = create_model(config, dict(zip(full.levels, full.channels, strict=True)), image_size)
    network = Network(full.cut(head.levels), head).eval()
    images = torch.rand(1, shots, 3, image_size, image_size)
    masks = (torch.rand(1, shots, image_size, image_size) > 0.9).float()
    with torch.no_grad(), FlopCounterMode(display=False) as support:
        state = network.enroll(images, masks)
    with torch.no_grad(), FlopCounterMode(display=False) as query:
        network.segment(state, images[:, 0])
    own, enrolled = parameters_of(head), query.get_total_flops() / 1e9
    whole = own + parameters_of(network.backbone)
    return Cost(own, whole, support.get_total_flops() / 1e9 + enrolled, enrolled)


def print_cost(config: ModelConfig, backbone: str, shots: int, image_size: int) -> None:
    """Print the cost as a table."""
    from rich.console import Console
    from rich.table import Table

    cost = measure_cost(config, backbone, shots, image_size)
    table = Table(
        title=f"{config.name} ({config.preset}), {backbone}, {shots}-shot, {image_size} x {image_size}"
    )
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_row("parameters, head (learned, backbone frozen)", f"{cost.head_parameters:,}")
    table.add_row("parameters, with the executed backbone", f"{cost.all_parameters:,}")
    table.add_row(f"one episode ({shots + 1} images)", f"{cost.episode_gflops:.1f} GFLOP")
    table.add_row("one query, class enrolled", f"{cost.enrolled_gflops:.1f} GFLOP")
    Console().print(table)
