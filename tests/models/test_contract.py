"""One contract for every head, and what the training-free ones answer on a pair whose answer is known."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lerenet.errors import ModelError, ParamsError
from lerenet.models import configure, create_model
from lerenet.models.config import check_networks
from lerenet.models.losses import create_loss
from lerenet.models.network import Network
from lerenet.params import Params
from tests.helpers.networks import (
    CHANNELS,
    HEADS,
    PEERS,
    SIDES,
    SIZE,
    batch,
    episode,
    make,
    slots,
    support_of,
)

CANCELLED = {  # in the difference of two answers, and in the softmax over shots
    ("tgrnet", "head.classify.3.bias"),
    ("canet", "attend.0.bias"),
    ("canet", "attend.2.bias"),
}
every = pytest.mark.parametrize("name", HEADS)


@every
@pytest.mark.parametrize("shots", [1, 5])
def test_logits_have_the_images_size(name: str, shots: int) -> None:
    head = make(name)
    logits = head(batch(*episode(head, shots=shots)))
    assert logits.shape == (2, SIZE, SIZE)
    assert bool(torch.isfinite(logits).all())


@every
@pytest.mark.parametrize("size", [33, 97])
def test_any_image_size(name: str, size: int) -> None:
    head = make(name, size)
    assert head(batch(*episode(head, size=size))).shape == (2, size, size)


@every
def test_gradients_are_finite_and_reach_every_weight(name: str) -> None:
    head = make(name).train()
    support, masks, query = episode(head, batch=3, shots=2)
    loss = head.learn(batch(support, masks, query, masks[:, 0], {"slot": slots(3)}), create_loss("bce_dice"))
    if not list(head.parameters()):
        assert not loss.requires_grad
        return
    loss.backward()
    for key, value in head.named_parameters():
        if not value.requires_grad:  # a base learner, trained before
            continue
        assert value.grad is not None, key
        assert bool(torch.isfinite(value.grad).all()), key
        if (
            name in PEERS and (name, key) not in CANCELLED and name != "hdmnet"
        ):  # its own test names its idle ones
            assert float(value.grad.abs().max()) > 0, key


LEARNING = [name for name in HEADS if name in PEERS or name in ("default", "paper", "authors", "baseline")]


@pytest.mark.parametrize("name", LEARNING)
def test_one_episode_can_be_learned_by_heart(name: str) -> None:
    torch.manual_seed(1)
    config = HEADS[name].model_copy(update={"dropout": 0.0})
    head = create_model(config, CHANNELS, SIZE).train()
    support, masks, query = episode(head)
    truth, extra = masks[:, 0].roll(7, 1), {"slot": slots(2)}
    optimizer = torch.optim.AdamW([value for value in head.parameters() if value.requires_grad], lr=3e-3)
    losses = []
    for _ in range(80):
        loss = head.learn(batch(support, masks, query, truth, extra), create_loss("bce"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if max(losses[-3:]) < losses[0] / 2:
            break
    else:
        pytest.fail(f"{losses[::10]}")


@every
@torch.inference_mode()
def test_saved_and_loaded_gives_the_same(name: str, tmp_path: Path) -> None:
    head = make(name)
    save_file(head.state_dict(), tmp_path / "w.safetensors")
    other = create_model(HEADS[name], CHANNELS, SIZE).eval()
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    inputs = episode(head)
    assert torch.equal(head(batch(*inputs)), other(batch(*inputs)))


@every
@pytest.mark.parametrize("shots", [1, 3])
@torch.inference_mode()
def test_an_enrolled_class_serves_any_number_of_queries(name: str, shots: int) -> None:
    head = make(name)
    support, masks, _ = episode(head, batch=1, shots=shots)
    _, _, queries = episode(head, batch=3, seed=7)
    state = head.encode(support_of(support, masks))
    assert all(isinstance(value, Tensor) for value in state.values())
    together = head.decode(state, queries)
    alone = torch.cat(
        [head(batch(support, masks, [level[i : i + 1] for level in queries])) for i in range(3)]
    )
    assert together.shape == (3, SIZE, SIZE)
    assert torch.allclose(together, alone, atol=1e-4)


@every
@torch.inference_mode()
def test_episodes_of_a_batch_do_not_mix(name: str) -> None:
    head = make(name)
    support, masks, query = episode(head, batch=3, shots=2)
    whole = head(batch(support, masks, query))
    one = slice(1, 2)
    alone = head(batch([level[one] for level in support], masks[one], [level[one] for level in query]))
    assert torch.allclose(whole[one], alone, atol=1e-4)


@every
@torch.inference_mode()
def test_the_order_of_shots_does_not_matter(name: str) -> None:
    head = make(name)
    support, masks, query = episode(head, shots=5)
    order = [3, 1, 4, 0, 2]
    moved = head(batch([level[:, order] for level in support], masks[:, order], query))
    assert torch.allclose(head(batch(support, masks, query)), moved, atol=1e-4)


@every
@torch.inference_mode()
def test_bfloat16_is_close_to_single_precision(name: str) -> None:
    head = make(name)
    inputs = episode(head)
    exact = head(batch(*inputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = head(batch(*inputs))
    assert rough.dtype == torch.float32
    assert float((exact - rough).abs().mean()) <= 0.03 * float(exact.abs().mean()) + 0.01


@every
@pytest.mark.parametrize("foreground", [0, 1, None])
@torch.inference_mode()
def test_masks_without_foreground_or_background_are_answered(name: str, foreground: int | None) -> None:
    head = make(name)
    support, masks, query = episode(head, shots=2)
    if foreground is None:  # one pixel
        masks.zero_()[:, :, 17, 23] = 1
    else:
        masks.fill_(foreground)
    assert bool(torch.isfinite(head(batch(support, masks, query))).all())


@pytest.mark.parametrize("preset", ["default", "paper", "authors"])
@pytest.mark.parametrize(("mpr", "mpe", "edge"), list(product([True, False], repeat=3)))
def test_every_switch_runs_and_the_support_always_counts(
    preset: str, mpr: bool, mpe: bool, edge: bool
) -> None:
    config = configure(preset=preset, width=6, side=5, mpr=mpr, mpe=mpe, edge=edge)
    torch.manual_seed(0)
    head = create_model(config, CHANNELS, SIZE).train()
    support, masks, query = episode(head, batch=3)
    logits = head(batch(support, masks, query))
    logits.mean().backward()
    if preset != "paper" or not mpr or mpe:  # the paper's MPR starts at the identity
        assert not torch.allclose(logits, head(batch([-level for level in support], masks, query)))


def test_switches_remove_parameters() -> None:
    def size(**switches: bool) -> int:
        head = create_model(configure(preset="paper", **switches), CHANNELS, SIZE)
        return sum(value.numel() for value in head.parameters())

    assert size() > size(edge=False) > size(edge=False, mpe=False) > size(mpr=False, mpe=False) > 0


def test_two_level_default_uses_what_there_is() -> None:
    assert create_model(configure(), {2: 4, 3: 5}, SIZE).levels == (2, 3)


def test_presets_default_to_the_papers_numbers() -> None:
    paper = create_model(configure(preset="paper"), {2: 512, 3: 1024}, 200)
    authors = create_model(configure(preset="authors"), {1: 256}, 200)
    assert (paper.levels, paper.width, paper.side) == ((2, 3), 256, 25)
    assert (authors.levels, authors.width, authors.side) == ((1,), 256, 50)
    assert create_model(configure(), dict.fromkeys((1, 2, 3, 4), 4), 200).levels == (2, 3, 4)


def test_a_level_that_the_backbone_lacks_is_named() -> None:
    with pytest.raises(ModelError, match=r"level 3.*\[1, 2\]"):
        create_model(configure("matching"), {1: 4, 2: 8}, SIZE)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(
        ParamsError, match="known: all_background, all_foreground, asgnet, bam, baseline, canet, dcp, hdmnet"
    ):
        configure("unet")


PEERS_KNOW = "dropout, levels, name, side, stride, turns, width"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (
            {"name": "bam", "preset": "paper"},
            "preset: unknown key; allowed: dropout, levels, name, prior, scaled, side, stride, turns, width",
        ),
        ({"name": "bam", "mpr": False}, "mpr: unknown key"),
        (
            {"name": "prototype", "shot_fusion": "average"},
            "shot_fusion: unknown key; allowed: levels, name, side, stride, turns",
        ),
        ({"name": "all_foreground", "levels": [2]}, "levels: unknown key; allowed: name"),
        ({"name": "baseline", "preset": "default"}, "preset: Input should be 'paper' or 'authors'"),
        ({"name": "lerenet", "grid": 25}, "grid: unknown key"),
    ],
)
def test_a_key_that_a_network_does_not_know_is_refused_with_those_it_does(
    settings: dict[str, Any], word: str
) -> None:
    params = Params.model_validate({"recipes": {"lerenet": {}, "mine": {"model": settings}}})
    with pytest.raises(ParamsError, match=re.escape(f"params.yaml: recipes.mine.model: {word}")):
        check_networks(params)


def test_the_default_reads_no_feature_channels() -> None:
    with pytest.raises(ParamsError, match="edge_form"):
        configure(edge_form="channel")


def test_importing_the_models_package_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import sys, lerenet.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- answers that are known ------------------------------------------------------------------------------


def known_pair(side: int = 5) -> tuple[list[Tensor], Tensor, list[Tensor], Tensor]:
    """Defect descriptors look one way, clean ones another; support and query have them in other places."""
    torch.manual_seed(0)
    clean, defect = torch.randn(2, 8)

    def picture(inside: Tensor) -> Tensor:
        look = torch.where(inside.bool(), defect[:, None, None], clean[:, None, None])
        return look + 0.05 * torch.randn(8, side, side)

    support, query = torch.zeros(side, side), torch.zeros(side, side)
    support[0, :2], query[2:4, 1:4] = 1, 1
    big = torch.ones(1, 1, 8, 8)
    masks = torch.kron(support, big[0, 0])[None, None]
    truth = torch.kron(query, big[0, 0])[None]
    return [picture(support)[None, None]], masks, [picture(query)[None]], truth


@pytest.mark.parametrize("name", ["matching", "prototype", "lerenet"])
@torch.inference_mode()
def test_a_known_pair_is_segmented_without_training(name: str) -> None:
    support, masks, query, truth = known_pair()
    head = create_model(configure(name, levels=(2,), side=5), {2: 8}, SIZE).eval()
    found = head(batch(support, masks, query)) > 0
    centres = found[:, 4::8, 4::8]
    assert torch.equal(centres, truth[:, 4::8, 4::8].bool())


@torch.inference_mode()
def test_the_floors_answer_one_thing() -> None:
    for name, answer in (("all_foreground", True), ("all_background", False)):
        head = make(name)
        assert bool(((head(batch(*episode(head))) > 0) == answer).all())


@torch.inference_mode()
def test_the_default_starts_as_the_matcher_of_its_own_levels() -> None:
    default = create_model(configure(side=5, mpr=False), CHANNELS, SIZE).eval()
    matcher = create_model(configure("matching", levels=(2, 3, 4), side=5), CHANNELS, SIZE)
    inputs = episode(default)
    assert torch.allclose(default(batch(*inputs)), default.scale * matcher(batch(*inputs)), atol=1e-3)


# -- backbone and head ------------------------------------------------------------------------------------


class Pyramid(nn.Module):
    """A stand-in for a backbone: levels 1 to 4 of random convolutions."""

    levels, channels, name = (1, 2, 3, 4), tuple(CHANNELS.values()), "pyramid"

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(3, CHANNELS[level], SIZE // SIDES[level], SIZE // SIDES[level]) for level in CHANNELS
        )

    def features(self, images: Tensor, levels: tuple[int, ...]) -> list[Tensor]:
        return [self.convs[level - 1](images) for level in levels]


@pytest.mark.parametrize("name", ["default", "paper", "authors", "matching"])
@torch.inference_mode()
def test_network_is_backbone_then_head(name: str) -> None:
    head = make(name)
    network = Network(Pyramid(), head).eval()  # type: ignore[arg-type]
    support, queries = torch.rand(2, 3, 3, SIZE, SIZE), torch.rand(2, 3, SIZE, SIZE)
    masks = episode(head, shots=3)[1]
    expected = network(support, masks, queries)
    assert expected.shape == (2, SIZE, SIZE)
    state = network.enrol(support[:1], masks[:1])
    assert torch.allclose(network.segment(state, queries)[:1], expected[:1], atol=1e-4)


def test_authors_head_part_by_part() -> None:
    def parts(module: nn.Module) -> int:
        return sum(value.numel() for value in module.parameters())

    head = create_model(configure(preset="authors"), {1: 256}, 200)
    mpr, mpe, ifm = head.mpr, head.mpe, head.ifm
    modules = (mpr.f_d, mpr.f_v, mpr.gcn.nodes, mpr.gcn.theta, mpr.reduce, mpr.tau, mpe, ifm.fuse)
    counts = [parts(module) for module in (*modules, ifm.residual, ifm.classify)]
    expected = [65_792, 65_792, 262_656, 65_536, 131_328, 66_048, 8_720, 131_328, 1_179_648, 590_338]
    assert counts == expected
    assert parts(create_model(configure(preset="authors"), {1: 128}, 200)) == 642_570
