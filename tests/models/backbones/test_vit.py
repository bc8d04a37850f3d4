"""Vision transformers as backbones: shapes, depth, weights by timm's names, cost; random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from lerenet.cost.flops import measure_cost
from lerenet.errors import ModelError
from lerenet.models import configure, create_model
from lerenet.models.backbones import weights
from lerenet.models.backbones.factory import create_backbone
from lerenet.models.network import Network

TINY = "vit_tiny_patch16_224"  # 192 channels, 12 blocks
WIDTH, BLOCKS, PLACES = 384, 12, 625  # of DINOv2 and DINOv3, small, on 200 x 200
EXTRA = {"dinov2": 1, "dinov3": 5}  # tokens that are no place: class, registers
PATCH = {"dinov2": 14, "dinov3": 16}


@pytest.mark.parametrize("name", ["dinov2", "dinov3"])
@torch.inference_mode()
def test_matching_and_lerenet_on_dino_give_logits(name: str) -> None:
    backbone = create_backbone(name, "random", (1, 2, 3)).eval()
    images = torch.rand(2, 3, 60, 60)  # 60 is no multiple of 8: 8 x 8 places
    levels = backbone(images)
    assert [tuple(level.shape) for level in levels] == [(2, WIDTH, 8, 8)] * 3
    masks = (torch.rand(1, 1, 60, 60) > 0.8).float()
    for model in ("matching", "lerenet"):
        head = create_model(configure(model), dict(zip((1, 2, 3), backbone.channels, strict=True)), 60)
        network = Network(backbone, head).eval()
        logits = network(images[:1, None], masks, images[1:])
        assert logits.shape == (1, 60, 60)
        assert bool(torch.isfinite(logits).all())


@pytest.mark.parametrize("name", ["dinov2", "dinov3"])
def test_the_cost_of_dino_by_hand(name: str) -> None:
    cost = measure_cost(configure("matching"), name)  # reads levels 2 and 3: nine of twelve blocks
    tokens, blocks = PLACES + EXTRA[name], BLOCKS * 3 // 4
    linear = 12 * WIDTH**2 * tokens  # query, key, value, output, and a multi-layer perceptron of 4 widths
    attention = 2 * tokens**2 * WIDTH
    patches = PLACES * 3 * PATCH[name] ** 2 * WIDTH
    by_hand = 2 * 2 * (blocks * (linear + attention) + patches) / 1e9  # two images
    backbone = sum(part.support + part.query for part in cost.parts if "backbone" in part.name)
    assert backbone == pytest.approx(by_hand, rel=0.01)


@torch.inference_mode()
def test_levels_are_the_quarters_of_timms_own_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(TINY).eval()
    path = tmp_path / "timm.safetensors"
    save_file(whole.state_dict(), path)
    backbone = create_backbone(TINY, str(path), (2, 4)).eval()  # by timm's names
    images = torch.rand(2, 3, 112, 112)  # 14 x 14 patches of 16: no interpolation of places
    x = F.interpolate((images - 0.5) / 0.5, (224, 224), mode="bilinear", align_corners=False)
    x = whole._pos_embed(whole.patch_embed(x))
    for level, found in zip((2, 4), backbone(images), strict=True):
        for block in whole.blocks[3 * (2 * (level // 2) - 2) : 3 * level]:
            x = block(x)
        expected = whole.norm(x)[:, 1:].transpose(1, 2).unflatten(2, (14, 14))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_no_block_deeper_than_the_last_level() -> None:
    backbone = create_backbone(TINY, "random", (1, 2))
    names = backbone.state_dict()
    assert any(".blocks.5." in name for name in names)
    assert not any(".blocks.6." in name or ".head." in name for name in names)
    slim = backbone.eval().cut((1,))
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(slim(images)[0], backbone(images)[0])
    assert not any(".blocks.3." in name for name in slim.state_dict())


@pytest.mark.parametrize("levels", [(0,), (5,)])
def test_a_level_that_is_no_quarter_is_refused(levels: tuple[int]) -> None:
    with pytest.raises(ModelError, match="does not give the levels"):
        create_backbone(TINY, "random", levels)


def test_weights_come_from_the_repository_that_timm_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    made = timm.create_model(TINY)
    asked: list[str] = []

    def fetch(repository: str) -> Path:
        asked.append(repository)
        save_file(made.state_dict(), tmp_path / "model.safetensors")
        return tmp_path / "model.safetensors"

    monkeypatch.setattr(weights, "fetch", fetch)
    own = create_backbone(TINY, "imagenet", (2,)).state_dict()
    for name, value in made.state_dict().items():
        if f"body.model.{name}" in own:
            assert torch.equal(own[f"body.model.{name}"], value)
    assert len(own) > 70
    assert asked == [timm.get_pretrained_cfg(TINY).hf_hub_id]
