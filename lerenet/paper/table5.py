"""Table 5 as the paper counts it, from a real network: the same rules, the same images, nothing typed in.

The rules are those of the counter `thop`, which reads modules alone: a convolution costs its multiply-adds
without its bias, a linear layer likewise, a batch normalisation with scale and shift 4 operations a value;
activations, max pooling and dropout cost nothing, and a functional call (a matrix product, a resize) is
never seen. The paper prints twice that count, at 200 x 200, for VGG16-bn. Three images pass the backbone
(support, query and a clean one, which LERENet has no use for), as deep as conv4_3 although the head reads
block 1. Parameters are those of every module that runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from lerenet.models import configure, create_model
from lerenet.models.backbones.factory import create_backbone
from lerenet.models.batch import EpisodeBatch, Support

SIZE = 200  # pixels
READ, DEEPEST = 1, 3  # levels of VGG16-bn: what the head reads, how far the backbone runs


@dataclass
class ModuleCount:
    """Operations by `thop`'s rules, and the parameters of the modules that ran."""

    operations: int = 0
    modules: set[nn.Module] = field(default_factory=set)

    @property
    def gflops(self) -> float:
        """Twice the operations, as the paper prints them."""
        return 2 * self.operations / 1e9

    @property
    def parameters(self) -> int:
        """Of every module that ran, once each."""
        return sum(value.numel() for module in self.modules for value in module.parameters())

    def add(self, module: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        """Forward hook: what this call of ``module`` costs by the rules above."""
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            self.operations += out.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            self.operations += out.numel() * module.in_features
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            self.operations += (4 if module.affine else 2) * args[0].numel()
        else:
            return
        self.modules.add(module)


@contextmanager
def module_count(*networks: nn.Module) -> Iterator[ModuleCount]:
    """Count every call of a module of ``networks`` within the block."""
    count = ModuleCount()
    modules = {module for network in networks for module in network.modules()}
    handles = [module.register_forward_hook(count.add) for module in modules]
    try:
        yield count
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def paper_count(images: int = 3) -> ModuleCount:
    """LERENet as Table 5 has it: preset `authors` on VGG16-bn, one support, ``images`` encoded.

    The published row is 69.85 G and 8.28 M, which is three images.
    """
    backbone = create_backbone("vgg16_bn", "random", (READ, DEEPEST)).eval()
    channels = dict(zip(backbone.levels, backbone.channels, strict=True))
    head = create_model(configure(preset="authors"), channels, SIZE).eval()
    with module_count(backbone, head) as count:
        encoded = [backbone(torch.rand(1, 3, SIZE, SIZE))[0] for _ in range(images)]
        support = Support([encoded[0][:, None]], torch.ones(1, 1, SIZE, SIZE))
        head(EpisodeBatch(support, [encoded[1]]))
    return count
