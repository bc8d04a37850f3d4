"""What holds for every model, preset and switch of Table 3, on inputs that are seldom usual."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from lerenet.errors import ModelError, ParamsError
from lerenet.models import configure, create_model
from lerenet.models.config import NetworkConfig
from lerenet.models.descriptors import relate
from lerenet.models.lerenet import relations
from lerenet.models.lerenet.gcn import laplacian
from lerenet.models.lerenet.relations import NEIGHBOURS, SHARPNESS, affinity, edges_of
from lerenet.models.losses import LOSSES, create_loss
from lerenet.models.segmenter import Segmenter
from tests.helpers.networks import batch, support_of

CHANNELS = {1: 6, 2: 8, 3: 10, 4: 12}
SIDES = {1: 16, 2: 8, 3: 4, 4: 2}  # of each level's map
SIZE = 32
FLOORS = ("matching", "prototype", "all_foreground", "all_background")
SWITCHES = list(product((True, False), repeat=3))


def _config(preset: str = "default", **more: object) -> NetworkConfig:
    return configure(**{"preset": preset, "width": 8, "side": 8, **more})


def _cases() -> dict[str, NetworkConfig]:
    cases = {name: configure(name, side=8) for name in ("matching", "prototype")}
    cases |= {name: configure(name) for name in ("all_foreground", "all_background")}
    cases |= {f"baseline-{preset}": _config(preset, name="baseline") for preset in ("paper", "authors")}
    for preset in ("default", "paper"):
        for mpr, mpe, edge in SWITCHES:
            key = f"{preset}-mpr{mpr:d}-mpe{mpe:d}-edge{edge:d}"
            cases[key] = _config(preset, mpr=mpr, mpe=mpe, edge=edge)
    cases["authors"] = _config("authors")
    cases["authors-own-width"] = _config("authors", width=None)
    for form in ("descriptor", "channel", "aligned"):
        cases[f"paper-{form}"] = _config("paper", edge_form=form)
    for preset in ("default", "paper"):
        cases[f"{preset}-average"] = _config(preset, shot_fusion="average")
    cases["matching-average"] = configure("matching", side=8, shot_fusion="average")
    return cases


CASES = _cases()
every_model = pytest.mark.parametrize("config", CASES.values(), ids=CASES.keys())


def _model(config: NetworkConfig, image_size: int = SIZE) -> Segmenter:
    """A head in eval mode whose branches that start at zero are awake, as after some training."""
    torch.manual_seed(1)
    model = create_model(config, CHANNELS, image_size)
    with torch.no_grad():
        for value in model.parameters():
            if not value.any():
                value.normal_(std=0.2)
    return model.eval()


def _features(model: Segmenter, *lead: int, seed: int = 0, stretch: float = 1.0) -> list[Tensor]:
    """Feature maps of each level that the model reads, as a backbone's last ReLU leaves them."""
    made = torch.Generator().manual_seed(seed)
    shapes = [(*lead, CHANNELS[i], SIDES[i], round(SIDES[i] * stretch)) for i in model.levels]
    return [torch.randn(shape, generator=made).relu() for shape in shapes]


def _masks(batch: int, shots: int) -> Tensor:
    masks = torch.zeros(batch, shots, SIZE, SIZE)
    for b, k in product(range(batch), range(shots)):
        masks[b, k, 4 + 2 * k : 18 + k, 6 + b : 20 + k + b] = 1
    return masks


def _truth(batch: int) -> Tensor:
    return _masks(batch, 1)[:, 0]


@every_model
@pytest.mark.parametrize("area", ["usual", "empty", "full"])
def test_every_parameter_gets_a_finite_gradient(config: NetworkConfig, area: str) -> None:
    model = _model(config).train()
    masks = {
        "usual": _masks(2, 2),
        "empty": torch.zeros(2, 2, SIZE, SIZE),
        "full": torch.ones(2, 2, SIZE, SIZE),
    }
    logits = model(batch(_features(model, 2, 2), masks[area], _features(model, 2, seed=1)))
    trained = dict(model.named_parameters())
    if not trained:
        assert not logits.requires_grad
        return
    create_loss("bce")(logits, _truth(2)).backward()
    without = [name for name, value in trained.items() if value.grad is None]
    assert not without, "parameters that nothing uses"
    assert not [name for name, value in trained.items() if not value.grad.isfinite().all()]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_of_each_loss_lowers_it(loss: str) -> None:
    model = _model(_config(dropout=0.0)).train()
    episode = _features(model, 2, 1), _masks(2, 1), _features(model, 2, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    seen = []
    for _ in range(8):
        value = create_loss(loss)(model(batch(*episode)), _truth(2))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        seen.append(value.item())
    assert seen[-1] < seen[0]


@every_model
def test_weights_survive_a_file(config: NetworkConfig, tmp_path: Path) -> None:
    model = _model(config)
    episode = _features(model, 2, 2), _masks(2, 2), _features(model, 2, seed=1)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(99)
    again = create_model(config, CHANNELS, SIZE).eval()
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(again(batch(*episode)), model(batch(*episode)))


@every_model
def test_an_enrolled_class_serves_any_number_of_queries(config: NetworkConfig) -> None:
    model = _model(config)
    state = model.encode(support_of(_features(model, 1, 2), _masks(1, 2)))
    kept = {name: value.clone() for name, value in state.items()}
    queries = _features(model, 3, seed=1)
    together = model.decode(state, queries)
    singly = torch.cat([model.decode(state, [level[i : i + 1] for level in queries]) for i in range(3)])
    torch.testing.assert_close(together, singly, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


@every_model
def test_the_order_of_shots_does_not_matter(config: NetworkConfig) -> None:
    model = _model(config)
    support, masks, query = _features(model, 2, 5), _masks(2, 5), _features(model, 2, seed=1)
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled = model(batch([level[:, order] for level in support], masks[:, order], query))
    torch.testing.assert_close(shuffled, model(batch(support, masks, query)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [case for case in CASES.values() if case.name != "prototype"])
def test_the_same_shot_five_times_is_one_shot_when_averaged(config: NetworkConfig) -> None:
    model = _model(config.model_copy(update={"shot_fusion": "average"}))
    support, masks, query = _features(model, 2, 1), _masks(2, 1), _features(model, 2, seed=1)
    five = model(
        batch([level.expand(-1, 5, -1, -1, -1) for level in support], masks.expand(-1, 5, -1, -1), query)
    )
    torch.testing.assert_close(five, model(batch(support, masks, query)), rtol=1e-4, atol=1e-4)


@every_model
def test_bfloat16_stays_close(config: NetworkConfig) -> None:
    model = _model(config)
    episode = _features(model, 2, 2), _masks(2, 2), _features(model, 2, seed=1)
    single = model(batch(*episode))
    with torch.autocast("cpu", torch.bfloat16):
        half = model(batch(*episode))
    assert half.dtype == torch.float32
    assert (half - single).abs().max() <= 0.03 * single.abs().max()


@every_model
def test_bfloat16_features_are_taken(config: NetworkConfig) -> None:
    """A trained backbone under autocast hands its features over in half precision."""
    model = _model(config)
    support, query = ([level.bfloat16() for level in _features(model, 2, *k)] for k in ((2,), ()))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch(support, _masks(2, 2), query))
    assert logits.shape == (2, SIZE, SIZE)
    assert logits.isfinite().all()


@every_model
@pytest.mark.parametrize(("image_size", "stretch"), [(33, 1.0), (31, 1.6), (7, 0.55)])
def test_odd_sizes_and_oblong_maps(config: NetworkConfig, image_size: int, stretch: float) -> None:
    model = _model(config, image_size)
    masks = torch.zeros(2, 1, 37, 53)
    masks[:, :, 10:20, 10:30] = 1
    support = _features(model, 2, 1, stretch=stretch)
    logits = model(batch(support, masks, _features(model, 2, seed=1, stretch=stretch)))
    assert logits.shape == (2, image_size, image_size)
    assert logits.isfinite().all()


@every_model
@pytest.mark.parametrize("defect", ["none", "one pixel", "beside empty"])
def test_a_mask_that_vanishes_gives_finite_logits(config: NetworkConfig, defect: str) -> None:
    model = _model(config)
    masks = torch.zeros(2, 2, SIZE, SIZE)
    if defect != "none":
        masks[:, : 1 if defect == "beside empty" else 2, 6, 6] = 1  # between the grid's bilinear samples
    logits = model(batch(_features(model, 2, 2), masks, _features(model, 2, seed=1)))
    assert logits.isfinite().all()


@every_model
def test_the_support_matters(config: NetworkConfig) -> None:
    """The constant answers aside, another mask is another answer."""
    model = _model(config)
    support, query = _features(model, 2, 1), _features(model, 2, seed=1)
    first, second = (model(batch(support, masks, query)) for masks in (_masks(2, 1), 1 - _masks(2, 1)))
    assert torch.equal(first, second) == config.name.startswith("all_")


@pytest.mark.parametrize(
    "settings",
    [
        *({"name": name} for name in ("lerenet", "baseline", "matching", "prototype")),
        *(
            {"name": name, "preset": preset}
            for name in ("lerenet", "baseline")
            for preset in ("paper", "authors")
        ),
    ],
)
def test_a_level_that_the_backbone_lacks_is_named(settings: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=r"level 3\b.*\[1, 2\](?s:.*)levels"):
        create_model(configure(**settings, levels=(2, 3)), {1: 6, 2: 8}, SIZE)


@pytest.mark.parametrize(("preset", "level"), [("paper", 2), ("authors", 1)])
def test_a_preset_without_its_level_is_refused(preset: str, level: int) -> None:
    given = {i: c for i, c in CHANNELS.items() if i != level}
    with pytest.raises(ModelError, match=f"level {level} "):
        create_model(_config(preset), given, SIZE)


def test_the_default_needs_some_level() -> None:
    with pytest.raises(ModelError, match=r"reads level 2 of the backbone, which gives \[0\]"):
        create_model(_config(), {0: 4}, SIZE)


@pytest.mark.parametrize("form", ["channel", "aligned"])
def test_the_default_refuses_an_edge_form_that_it_has_not(form: str) -> None:
    with pytest.raises(ParamsError, match=f"edge_form '{form}'(?s:.*)set preset paper"):
        _config(edge_form=form)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_every_switch_of_table_3_adds_its_parts(preset: str) -> None:
    heads = [_model(_config(preset, mpr=r, mpe=e, edge=d)) for r, e, d in SWITCHES]
    sizes = [sum(value.numel() for value in head.parameters()) for head in heads]
    assert len(set(sizes)) == 6  # edge counts with mpe only: two of the eight repeat


def _answer(head: Segmenter) -> Tensor:
    masks = torch.zeros(1, 1, SIZE, SIZE)
    masks[..., 8:20, 8:20] = 1.0
    with torch.inference_mode():
        return head(batch(_features(head, 1, 1), masks, _features(head, 1, seed=1)))


@pytest.mark.parametrize("lost", ["nearest", "difference", "prototype", "strength", "own", "graph"])
def test_every_relation_reaches_the_defaults_answer(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head = _model(_config())
    before = _answer(head)
    maps = {"nearest": slice(0, 2), "difference": slice(2, 3), "prototype": slice(3, 4)}

    def without(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        found, descriptors = relate(*args, **kwargs)
        found[:, maps[lost]] = 0
        return found, descriptors

    if lost in maps:
        monkeypatch.setattr(relations, "relate", without)
    else:
        part = {"strength": "strength", "own": "own_prototypes", "graph": "affinity"}[lost]
        real = getattr(relations, part)
        monkeypatch.setattr(relations, part, lambda *args: torch.zeros_like(real(*args)))
    assert not torch.allclose(before, _answer(head), atol=1e-4)


@pytest.mark.parametrize("part", ["mpr", "mpe"])
def test_each_module_reaches_the_papers_answer(part: str) -> None:
    head = _model(_config("paper"))
    before = _answer(head)
    head.get_submodule(part).register_forward_hook(lambda module, args, out: torch.zeros_like(out))
    assert not torch.allclose(before, _answer(head), atol=1e-4)


# -- properties of the parts -----------------------------------------------------------------------------

seeds = st.integers(0, 10_000)
quick = settings(max_examples=25, deadline=None)


def _draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@quick
@given(seed=seeds, nodes=st.integers(1, 9), size=st.sampled_from([0.0, 1e-4, 1.0, 1e3]))
def test_the_laplacian_is_symmetric_with_eigenvalues_up_to_one(seed: int, nodes: int, size: float) -> None:
    raw = _draw(seed, nodes, nodes).abs() * size
    found = laplacian(raw + raw.T)
    torch.testing.assert_close(found, found.T)
    values = torch.linalg.eigvalsh(found)
    assert values.abs().max() <= 1 + 1e-9
    assert values.max() >= 1 - 1e-9  # D~^1/2 is its eigenvector


@quick
@given(seed=seeds, places=st.integers(1, 40))
def test_affinity_against_a_loop(seed: int, places: int) -> None:
    unit = F.normalize(_draw(seed, 1, 5, places), dim=1)
    x = unit[0].numpy().T
    cosine = x @ x.T
    expected = np.zeros((places, places))
    for i in range(places):
        others = sorted((j for j in range(places) if j != i), key=lambda j: -cosine[i, j])
        for j in others[:NEIGHBOURS]:
            expected[i, j] = expected[j, i] = np.exp(SHARPNESS * (cosine[i, j] - 1))
    found = affinity(*edges_of(unit.transpose(1, 2) @ unit))[0]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


@quick
@given(seed=seeds, shots=st.integers(1, 3), concat=st.booleans())
def test_relations_ignore_a_common_shift_and_scale(seed: int, shots: int, concat: bool) -> None:
    query, support = _draw(seed, 1, 4, 12), _draw(seed + 1, 1, shots, 4, 12)
    shares = (_draw(seed + 2, 1, shots, 12) > 0.5).double()
    shift = _draw(seed + 3, 1, 4, 1)
    moved = relate(3 * query + shift, 3 * support + shift[:, None], shares, concat)[0]
    found = relate(query, support, shares, concat)[0]
    torch.testing.assert_close(moved, found)
    assert found[:, [0, 1, 3]].abs().max() <= 1 + 1e-9


@quick
@given(
    logits=st.lists(st.floats(-30, 30), min_size=1, max_size=12),
    bits=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_losses_against_their_formulas(logits: list[float], bits: list[bool]) -> None:
    x, t = np.array(logits), np.array(bits[: len(logits)], dtype=float)
    right = np.logaddexp(0, -x) * t + np.logaddexp(0, x) * (1 - t)  # -log p_t
    focal = ((0.25 * t + 0.75 * (1 - t)) * (1 - np.exp(-right)) ** 2 * right).mean()
    p = 1 / (1 + np.exp(-x))
    dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    expected = {"bce": right.mean(), "focal": focal, "dice": dice, "bce_dice": right.mean() + dice}
    args = torch.from_numpy(x)[None, None], torch.from_numpy(t)[None, None]
    found = {name: float(loss(*args)) for name, loss in LOSSES.items()}
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-12)


@quick
@given(down=st.integers(0, 7), right=st.integers(0, 7), seed=seeds, name=st.sampled_from(FLOORS[:2]))
def test_a_shifted_copy_of_the_support_is_found(down: int, right: int, seed: int, name: str) -> None:
    """Query = support moved round the edges; clean and defect places look different, each a bit noisy."""
    mask = torch.zeros(8, 8)
    mask[2:4, 3:6] = 1
    clean, defect = torch.eye(12)[:2, :, None, None]
    picture = torch.where(mask.bool(), defect, clean) + 0.02 * _draw(seed, 12, 8, 8).float()
    masks = mask.repeat_interleave(4, 0).repeat_interleave(4, 1)[None, None]
    query = picture.roll((down, right), (1, 2))[None]
    found = (
        create_model(configure(name, levels=(2,), side=8), {2: 12}, 8)(
            batch([picture[None, None]], masks, [query])
        )[0]
        > 0
    )
    assert torch.equal(found, mask.roll((down, right), (0, 1)).bool())
