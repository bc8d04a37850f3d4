"""Dilated backbones: finer levels from the same weights, against the undilated ones and against independent lines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.enrolment.material import described_by
from lerenet.errors import ModelError, ParamsError
from lerenet.evaluation.protocol import same_backbone
from lerenet.models import backbone_for, configure, create_model
from lerenet.models.backbones.dilated import SpreadPool
from lerenet.models.backbones.factory import DILATED, Backbone, create_backbone
from lerenet.models.backbones.fuse_batchnorm import fuse_batchnorm
from lerenet.models.backbones.fused import Fused, fuse
from lerenet.models.backbones.weights import LITE0, bundled
from lerenet.models.network import Network
from lerenet.models.serialization import LoadedNetwork, load_network, save_network

WIDTHS = {LITE0: (24, 40, 112, 320), "resnet50": (256, 512, 1024, 2048), "resnet101": (256, 512, 1024, 2048)}


def pair(name: str, levels: tuple[int, ...] = (1, 2, 3, 4)) -> tuple[Backbone, Backbone]:
    """Undilated and dilated, with the same weights, no normalisation of which is at its start."""
    torch.manual_seed(0)
    plain = create_backbone(name, "random", levels).eval()
    for part in plain.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.5)
    dilated = create_backbone(name, "random", levels, stride=8).eval()
    dilated.load_state_dict(plain.state_dict())  # strict: the same names and shapes
    return plain, dilated


@pytest.mark.parametrize("name", DILATED)
@torch.inference_mode()
def test_a_dilated_backbone_is_finer_and_has_what_the_undilated_one_finds(name: str) -> None:
    plain, dilated = pair(name)
    images = torch.rand(1, 3, 200, 200)
    found = dilated(images)
    sides = (50, 25, 25, 25)
    assert [tuple(level.shape[1:]) for level in found] == [
        (width, side, side) for width, side in zip(WIDTHS[name], sides, strict=True)
    ]
    assert (dilated.levels, dilated.channels) == (plain.levels, plain.channels)
    for one, other, apart in zip(plain(images), found, (1, 1, 2, 4), strict=True):
        torch.testing.assert_close(other[..., ::apart, ::apart], one, rtol=1e-4, atol=1e-5 * float(one.max()))
    assert float(found[3].std()) > 1  # there is something to compare


@pytest.mark.parametrize("name", ["resnet50_authors", "resnet18"])
@torch.inference_mode()
def test_other_resnets_of_timm_too(name: str) -> None:
    plain, dilated = pair(name, (2, 3))
    images = torch.rand(1, 3, 72, 72)
    coarse, fine = plain(images)[1], dilated(images)[1]
    torch.testing.assert_close(fine[..., ::2, ::2], coarse, rtol=1e-4, atol=1e-5 * float(coarse.max()))


@torch.inference_mode()
def test_the_dilated_lite0_by_hand() -> None:
    state = bundled()
    images = torch.rand(1, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    backbone = create_backbone(LITE0, "imagenet", (2, 3, 4), stride=8).eval()

    def convolve(x: Tensor, name: str, stride: int = 1, apart: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        reach = (weight.shape[-1] - 1) * apart
        total = max((-(-x.shape[-1] // stride) - 1) * stride + reach + 1 - x.shape[-1], 0)
        low, high = total // 2, total - total // 2
        return F.conv2d(
            F.pad(x, (low, high, low, high)), weight, None, stride, 0, apart, x.shape[1] // weight.shape[1]
        )

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance, scale, shift = (
            state[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-3).sqrt() * scale + shift

    x = norm(convolve((images - 0.5) / 0.5, "conv_stem", 2), "bn1").clamp(0, 6)
    # blocks of each stage, the first one's stride, and how far the taps of the first and of the later ones lie apart
    stages = [
        (1, 1, 1, 1),
        (2, 2, 1, 1),
        (2, 2, 1, 1),
        (3, 1, 1, 2),
        (3, 1, 2, 2),
        (4, 1, 2, 4),
        (1, 1, 4, 4),
    ]
    after = []
    for stage, (count, stride, first, later) in enumerate(stages):
        for block in range(count):
            name, before, step = f"blocks.{stage}.{block}", x, stride if block == 0 else 1
            apart = later if block else first
            if stage == 0:  # depthwise, then the projection
                x = norm(convolve(x, f"{name}.conv_dw", step, apart), f"{name}.bn1").clamp(0, 6)
                x = norm(convolve(x, f"{name}.conv_pw"), f"{name}.bn2")
            else:
                x = norm(convolve(x, f"{name}.conv_pw"), f"{name}.bn1").clamp(0, 6)
                x = norm(convolve(x, f"{name}.conv_dw", step, apart), f"{name}.bn2").clamp(0, 6)
                x = norm(convolve(x, f"{name}.conv_pwl"), f"{name}.bn3")
            x = x + before if x.shape == before.shape else x
        after.append(x)
    for found, wanted in zip(backbone(images), (after[2], after[4], after[6]), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_the_pool_by_hand() -> None:
    maps = torch.rand(1, 1, 5, 5)
    for apart in (1, 2):
        found = SpreadPool(apart)(maps)[0, 0]
        for i, j in ((0, 0), (1, 2), (4, 3), (4, 4)):
            rows, columns = (min(at + apart, 4) for at in (i, j))
            four = maps[0, 0, [i, i, rows, rows], [j, columns, j, columns]]
            assert found[i, j] == pytest.approx(float(four.mean()))


@pytest.mark.parametrize(("name", "side"), [(LITE0, 96), (LITE0, 75), (LITE0, 100), ("resnet50", 72)])
@torch.inference_mode()
def test_folded_and_fused_features_are_the_same(name: str, side: int) -> None:
    _, dilated = pair(name, (2, 3, 4))
    folded = fuse_batchnorm(dilated, side)
    fused = fuse(folded, side)
    assert folded is not dilated
    assert fused is not folded
    layers = [part.convolution for part in fused.modules() if isinstance(part, Fused)]
    assert {layer.dilation for layer in layers} == {(1, 1), (2, 2), (4, 4)}
    for count in (1, 3):
        images = torch.rand(count, 3, side, side)
        for one, two, plain in zip(folded(images), fused(images), dilated(images), strict=True):
            limits = {"rtol": 1e-3, "atol": 1e-4 * float(plain.abs().max())}
            torch.testing.assert_close(one, plain, **limits)
            torch.testing.assert_close(two, plain, **limits)


@pytest.mark.parametrize("levels", [(1, 2, 3), (3,)])
def test_a_cut_backbone_keeps_its_stride(levels: tuple[int, ...]) -> None:
    _, dilated = pair(LITE0)
    slim, images = dilated.cut(levels), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for one, other in zip(slim(images), dilated.features(images, levels), strict=True):
            assert torch.equal(one, other)
    assert slim.stride == 8


def test_weights_of_a_pretraining_serve_both(tmp_path: Path) -> None:
    plain, _ = pair(LITE0)  # the stage pretrains undilated
    save_file(plain.state_dict(), tmp_path / "backbone.safetensors")
    config = configure("pfenet", stride=8)
    dilated = backbone_for(config, LITE0, str(tmp_path / "backbone.safetensors"), (2, 3))
    assert dilated.stride == 8
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in dilated.state_dict().items())


def test_a_saved_network_comes_back_dilated(tmp_path: Path) -> None:
    _, dilated = pair("resnet18", (2, 3))
    config = configure("baseline", preset="paper", side=8, width=8, levels=(2, 3), stride=8)
    head = create_model(config, dict(zip(dilated.levels, dilated.channels, strict=True)), 64).eval()
    settings = {"model": config.model_dump(mode="json"), "backbone": "resnet18", "image_size": 64}
    save_network(tmp_path / "model", head, dilated, settings)
    loaded = load_network(tmp_path / "model").network
    assert loaded.backbone.stride == 8
    support, masks, query = torch.rand(1, 1, 3, 64, 64), torch.ones(1, 1, 64, 64), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(support, masks, query), Network(dilated, head)(support, masks, query))


def test_one_is_never_taken_for_the_other() -> None:
    plain, dilated = pair("resnet18", (2, 3))
    head = create_model(configure("matching"), {2: 128, 3: 256}, 64)
    assert same_backbone(plain, plain)
    assert not same_backbone(plain, dilated)
    names = {described_by(LoadedNetwork(Network(one, head), 64)) for one in (plain, dilated)}
    assert len(names) == 2


@pytest.mark.parametrize(
    "name", ["vgg16", "vgg16_bn", "dinov2", "densenet121", "swin_tiny_patch4_window7_224", "hrnet_w18"]
)
def test_what_can_not_be_dilated_is_refused(name: str) -> None:
    with pytest.raises(
        ModelError, match=f"{name} does not give the levels .1, 2. at a stride of 8"
    ) as raised:
        create_backbone(name, "random", (1, 2), stride=8)
    assert "leave `stride` out" in raised.value.remedy
    assert "resnet50" in raised.value.remedy


def test_no_other_stride_can_be_set() -> None:
    with pytest.raises(ParamsError, match="stride: Input should be 8"):
        configure("pfenet", stride=16)
    with pytest.raises(ParamsError, match="stride: unknown key"):
        configure("all_foreground", stride=8)
