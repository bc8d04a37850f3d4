"""Folded normalisation: the same features with fewer operations, or nothing done."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from lerenet.models.backbones.factory import Backbone, create_backbone
from lerenet.models.backbones.fuse_batchnorm import fuse_batchnorm


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def trained(name: str, levels: tuple[int, ...], turns: int = 1) -> Backbone:
    """A backbone of which no normalisation is at its start."""
    torch.manual_seed(0)
    backbone = create_backbone(name, "random", levels, turns).eval()
    for part in backbone.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            for positive in (part.running_var, part.weight):
                nn.init.uniform_(positive, 0.8, 1.2)
            nn.init.normal_(part.bias, std=0.1)
    return backbone


@pytest.mark.parametrize("turns", [1, 4])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50", "vgg16_bn", "densenet121", "resnetv2_50"])
def test_a_folded_backbone_gives_the_same_features(name: str, turns: int) -> None:
    backbone = trained(name, (1, 2), turns)
    before = copy.deepcopy(backbone.state_dict())
    folded = fuse_batchnorm(backbone, 96)
    images = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        for one, other in zip(folded(images), backbone(images), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=float(1e-4 * other.abs().max()))
    assert norms(folded) < norms(backbone)
    after = backbone.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("name", ["efficientnet_lite0", "vgg16_bn"])
def test_no_normalisation_is_left(name: str) -> None:
    assert norms(fuse_batchnorm(trained(name, (1, 2)), 64)) == 0


class Crossed(nn.Module):
    """Normalises before the convolution that stands first; takes no small picture."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> list[Tensor]:
        assert x.shape[2] == 80
        return [self.convolution(self.norm(x))]


def test_what_would_change_the_features_is_not_done() -> None:
    body = Crossed()
    nn.init.uniform_(body.norm.running_var, 2, 3)
    backbone = Backbone("crossed", body, (1,), (3,), ((0.5,) * 3, (0.5,) * 3)).eval()
    assert fuse_batchnorm(backbone, 80) is backbone
    nn.init.ones_(body.norm.running_var)  # now it does not matter
    assert norms(fuse_batchnorm(backbone, 80)) == 0


def test_a_network_without_normalisation_stays_as_it_is() -> None:
    backbone = create_backbone("vgg16", "random", (1,)).eval()
    assert fuse_batchnorm(backbone, 32) is backbone


def test_folding_twice_changes_nothing() -> None:
    once = fuse_batchnorm(trained("efficientnet_lite0", (1, 2)), 64)
    assert fuse_batchnorm(once, 64) is once
