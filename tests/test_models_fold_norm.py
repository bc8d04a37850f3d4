"""Folded normalisation: the same features with fewer operations, or nothing done."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from lerenet.models.backbones import Backbone, create_backbone
from lerenet.models.fold_norm import fold_norm


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
    folded = fold_norm(backbone)
    images = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        for one, other in zip(folded(images), backbone(images), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=float(1e-4 * other.abs().max()))
    assert norms(folded) < norms(backbone)
    after = backbone.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("name", ["efficientnet_lite0", "vgg16_bn"])
def test_no_normalisation_is_left(name: str) -> None:
    assert norms(fold_norm(trained(name, (1, 2)))) == 0


class Crossed(nn.Module):
    """Normalises before the convolution that stands first."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.convolution(self.norm(x))]


def test_what_can_not_be_folded_stays_as_it_is() -> None:
    body = Crossed()
    nn.init.uniform_(body.norm.running_var, 2, 3)
    backbone = Backbone("crossed", body, (1,), (3,), ((0.5,) * 3, (0.5,) * 3)).eval()
    images = torch.rand(1, 3, 16, 16)
    kept = fold_norm(backbone)
    assert norms(kept) == 1
    assert torch.equal(kept(images)[0], backbone(images)[0])


def test_a_network_without_normalisation() -> None:
    backbone = create_backbone("vgg16", "random", (1,)).eval()
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(fold_norm(backbone)(images)[0], backbone(images)[0])
