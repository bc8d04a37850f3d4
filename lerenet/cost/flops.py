"""Parameters, and FLOPs by torch's counter: 2 a multiply-add, convolutions and matrix products.

Norms, activations, sorting and resizing are not counted. The backbone is counted without computing
(on torch's meta device), the head on features of its shapes and a mask of one square.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lerenet.models import backbone_for, create_model
from lerenet.models.backbones.factory import Backbone
from lerenet.models.backbones.weights import AUTHORS
from lerenet.models.batch import Support
from lerenet.models.config import NetworkConfig
from lerenet.models.refine import refine
from lerenet.models.segmenter import Segmenter, parameters_of

LEVELS = (1, 2, 3, 4)
OWN = "relations to the support"  # products in the head itself, in none of its modules


@dataclass(frozen=True)
class Part:
    """GFLOPs of one part: for enrolling the support once, and for each query after it."""

    name: str
    support: float
    query: float


@dataclass(frozen=True)
class Cost:
    """Parameters and GFLOPs of a head on a backbone; ``parts`` add up to an episode."""

    head_parameters: int
    backbone_parameters: int
    parts: tuple[Part, ...]

    @property
    def all_parameters(self) -> int:
        """Of the head and the executed backbone."""
        return self.head_parameters + self.backbone_parameters

    @property
    def enrolled_gflops(self) -> float:
        """One query of a class whose support is enrolled."""
        return sum(part.query for part in self.parts)

    @property
    def episode_gflops(self) -> float:
        """K supports and one query."""
        return self.enrolled_gflops + sum(part.support for part in self.parts)


def measure_cost(config: NetworkConfig, backbone: str, shots: int = 1, image_size: int = 200) -> Cost:
    """Count one episode of K supports and one query, part by part.

    Raises:
        ModelError: unknown model or backbone, or a level that the backbone does not give.
    """
    head, cut = build(config, backbone, image_size)
    with torch.device("meta"):
        features = cut(torch.empty(1, 3, image_size, image_size))
    shapes = [level.shape[1:] for level in features]
    images = shots * (1 + ("masked" in head.reads)) + ("normal" in head.reads)  # through the backbone, once
    parts = [Part(name, images * own, own) for name, own in _reach(cut, image_size)]
    parts += _head_parts(head, shapes, shots, image_size)
    return Cost(parameters_of(head), parameters_of(cut), tuple(parts))


def build(config: NetworkConfig, backbone: str, image_size: int) -> tuple[Segmenter, Backbone]:
    """The head, and on the meta device the backbone no deeper than the head reads; both in eval mode."""
    if getattr(config, "preset", "") == "authors" and f"{backbone}_authors" in AUTHORS:
        backbone = f"{backbone}_authors"  # their stem is twice as wide as timm's
    levels = sorted({*LEVELS, *(getattr(config, "levels", None) or ())})
    with torch.device("meta"):
        full = backbone_for(config, backbone, "random", levels)
        head_channels = dict(zip(full.levels, full.channels, strict=True))
    head = create_model(config, head_channels, image_size).eval()
    with torch.device("meta"):
        return head, full.like(head.levels).eval()


def example_masks(shots: int, image_size: int) -> Tensor:
    """(1, K, S, S): a centred square of 8 % of the image; how much is compared depends on the mask."""
    low, high = image_size * 9 // 25, image_size * 16 // 25
    masks = torch.zeros(1, shots, image_size, image_size)
    masks[:, :, low:high, low:high] = 1.0
    return masks


def _reach(backbone: Backbone, image_size: int) -> list[tuple[str, float]]:
    """What each level of the backbone adds for one image."""
    rows, before = [], 0.0
    for level in backbone.levels:
        wanted = [shallower for shallower in backbone.levels if shallower <= level]
        with torch.device("meta"), torch.no_grad():
            images = torch.empty(1, 3, image_size, image_size)
            shallow = backbone.like(wanted).eval()
            with FlopCounterMode(display=False) as counter:
                shallow(images)
        total = counter.get_total_flops() / 1e9
        rows.append((f"backbone, to level {level}", total - before))
        before = total
    return rows


def _head_parts(head: Segmenter, shapes: list[torch.Size], shots: int, image_size: int) -> list[Part]:
    support = [torch.rand(1, shots, *shape) for shape in shapes]
    query = [torch.rand(1, *shape) for shape in shapes]
    with torch.no_grad(), _counted(head) as encoding:
        state = head.encode(Support(support, example_masks(shots, image_size), masked=support, normal=query))
    with torch.no_grad(), _counted(head) as decoding:
        logits = head.decode(state, query)
    names = [name for name in encoding if encoding[name] or decoding[name]]
    parts = [Part(f"head, {name}", encoding[name] / 1e9, decoding[name] / 1e9) for name in names]
    if head.refined:
        with FlopCounterMode(display=False) as counter:
            refine(logits, torch.rand(1, 3, image_size, image_size))
        parts.append(Part("the picture's edges and tones", 0.0, counter.get_total_flops() / 1e9))
    return parts


@contextmanager
def _counted(head: nn.Module) -> Iterator[dict[str, int]]:
    """FLOPs within the block by child of ``head``, whichever of the child's modules is called; then its own."""
    flops = {name: 0 for name, _ in head.named_children()} | {OWN: 0}
    inside: list[nn.Module] = []
    handles = []
    counter = FlopCounterMode(display=False)
    for name, child in head.named_children():

        def enter(module: nn.Module, args: object, name: str = name) -> None:
            if not inside:
                flops[name] -= counter.get_total_flops()
            inside.append(module)

        def leave(module: nn.Module, args: object, out: object, name: str = name) -> None:
            inside.pop()
            if not inside:
                flops[name] += counter.get_total_flops()

        for module in child.modules():
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        with counter:
            yield flops
    finally:
        for handle in handles:
            handle.remove()
    flops[OWN] = counter.get_total_flops() - sum(flops.values())
