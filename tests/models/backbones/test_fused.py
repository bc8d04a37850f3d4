"""A fused backbone gives the features of the plain one, whatever the batch, side and network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lerenet.models.backbones.factory import Backbone, create_backbone
from lerenet.models.backbones.fuse_batchnorm import fuse_batchnorm
from lerenet.models.backbones.fused import Fused, OneByOne, fuse


def folded(name: str, side: int, turns: int = 1) -> Backbone:
    torch.manual_seed(0)
    return fuse_batchnorm(create_backbone(name, "random", (1, 2, 3), turns).eval(), side)


@pytest.mark.parametrize(
    ("name", "side", "turns"),
    [("efficientnet_lite0", 96, 4), ("efficientnet_lite0", 75, 4), ("resnet18", 64, 1), ("vgg16", 32, 1)],
)
@torch.inference_mode()
def test_features_stay(name: str, side: int, turns: int) -> None:
    plain = folded(name, side, turns)
    fused = fuse(plain, side)
    assert any(isinstance(part, Fused) for part in fused.modules())
    assert not any(isinstance(part, Fused) for part in plain.modules())
    for count in (1, 3):
        images = torch.rand(count, 3, side, side)
        for one, other in zip(fused(images), plain(images), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_stages_with_large_maps_see_one_turn_after_the_other() -> None:
    fused = fuse(folded("efficientnet_lite0", 200, 4), 200)
    assert [place for place, stage in enumerate(fused.body.blocks) if isinstance(stage, OneByOne)] == [1]
    one, two = torch.rand(1, 3, 200, 200), torch.rand(1, 3, 200, 200)
    alone, both = fused(one), fused(torch.cat([one, two]))
    for a, b in zip(alone, both, strict=True):
        torch.testing.assert_close(a, b[:1], atol=1e-4, rtol=1e-4)


def test_what_can_not_be_fused_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = folded("resnet18", 64)
    assert fuse(nn.Identity(), 64).__class__ is nn.Identity  # type: ignore[arg-type]
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert fuse(plain, 64) is plain
    monkeypatch.undo()
    monkeypatch.setitem(Fused.forward.__globals__, "ACTIVATIONS", {nn.ReLU: ("hardtanh", [0.0, 0.1])})
    wrong = folded("vgg16", 32)
    assert fuse(wrong, 32) is wrong  # its features would change
