"""How long an episode and a query of an enrolled class take here, one image at a time; peak memory."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from lerenet.cost.flops import build, example_masks
from lerenet.device import autocast
from lerenet.models.backbones.fuse_batchnorm import fuse_batchnorm
from lerenet.models.config import NetworkConfig
from lerenet.models.network import Network

WARM_UP = 3  # runs that are not counted


@dataclass(frozen=True)
class Times:
    """Milliseconds of repeated runs."""

    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Middle of the runs."""
        return statistics.median(self.milliseconds)

    def __str__(self) -> str:
        low, high = min(self.milliseconds), max(self.milliseconds)
        return f"{self.median:.1f} ms ({low:.1f} to {high:.1f})"


def repeat(call: Callable[[], object], repeats: int, warm_up: int = WARM_UP) -> Times:
    """Time ``call`` ``repeats`` times, after a few runs that are not counted."""
    for _ in range(warm_up):
        call()
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        spent.append((time.perf_counter() - began) * 1000)
    return Times(tuple(spent))


def peak_megabytes() -> float:
    """The most memory this process has held so far, interpreter and torch included, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


@torch.inference_mode()
def measure_latency(
    config: NetworkConfig,
    backbone: str,
    shots: int = 1,
    image_size: int = 200,
    precision: str = "fp32",
    repeats: int = 20,
) -> tuple[Times, Times]:
    """A whole episode, and a query of an enrolled class: from tensor to logits on the CPU, random weights."""
    head, cut = build(config, backbone, image_size)
    frozen = cut.like(head.levels).eval()
    network = Network(fuse_batchnorm(frozen, image_size), head).eval().to(memory_format=torch.channels_last)
    pictures = torch.rand(shots + 1, 3, image_size, image_size)
    support, query = pictures[None, :shots], pictures[shots:]
    masks = example_masks(shots, image_size)
    with autocast(torch.device("cpu"), precision):
        state = network.enrol(support, masks)
        episode = repeat(lambda: network(support, masks, query), repeats)
        return episode, repeat(lambda: network.segment(state, query), repeats)
