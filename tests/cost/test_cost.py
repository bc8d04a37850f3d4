"""What a network costs: the paper's Table 5 to its digits, torch's counts, the `cost` command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from lerenet.cli.main import app
from lerenet.cost.flops import build, example_masks, measure_cost
from lerenet.cost.latency import Times, measure_latency, peak_megabytes, repeat
from lerenet.errors import ParamsError
from lerenet.models import configure
from lerenet.models.backbones.factory import create_backbone
from lerenet.models.config import NetworkConfig
from lerenet.models.network import Network
from lerenet.paper.printed import printed_cost
from lerenet.paper.table5 import module_count, paper_count
from tests.helpers.pipeline import make_project

AUTHORS = configure(preset="authors")


def test_table_5_comes_out_of_counting_a_network() -> None:
    printed = {row.method: row for row in printed_cost()}["LERENet"]
    count = paper_count()
    assert f"{count.gflops:.2f}" == printed.gflops
    assert f"{count.parameters / 1e6:.2f}" == printed.parameters
    assert count.parameters == 8_283_210
    assert f"{paper_count(images=2).gflops:.2f}" == "47.51"


def test_modules_are_counted_as_thop_counts_them() -> None:
    conv, norm, linear = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(6, 5)
    with module_count(conv, norm, linear) as count, torch.no_grad():
        norm(torch.relu(conv(torch.rand(2, 3, 4, 6))))
        linear(torch.rand(7, 6))
        linear(torch.rand(1, 6))
    assert count.operations == 2 * 8 * 4 * 6 * 27 + 4 * 2 * 8 * 4 * 6 + 8 * 5 * 6
    assert count.parameters == 27 * 8 + 8 + 16 + 35
    conv(torch.rand(1, 3, 4, 6))
    assert count.operations == 2 * 8 * 4 * 6 * 27 + 4 * 2 * 8 * 4 * 6 + 8 * 5 * 6  # no hook is left


@pytest.mark.parametrize(("shots", "gflops"), [(1, 19.2), (5, 32.9)])
def test_authors_cost_on_resnet50(shots: int, gflops: float) -> None:
    cost = measure_cost(AUTHORS, "resnet50", shots)
    assert (cost.head_parameters, cost.all_parameters) == (2_567_186, 2_916_306)
    assert round(cost.episode_gflops, 1) == gflops
    assert cost.enrolled_gflops < cost.episode_gflops


def test_authors_head_on_vgg16_bn() -> None:
    assert measure_cost(AUTHORS, "vgg16_bn", image_size=64).head_parameters == 642_570


@pytest.mark.parametrize(
    "config",
    [
        configure(),
        configure(preset="paper"),
        AUTHORS,
        configure("baseline"),
        configure("pfenet", stride=8, width=8),
    ],
)
def test_parts_add_up_to_what_the_whole_network_does(config: NetworkConfig) -> None:
    cost = measure_cost(config, "resnet18", shots=2, image_size=64)
    head, cut = build(config, "resnet18", 64)
    network = Network(create_backbone(cut.name, "random", head.levels, cut.turns, cut.stride), head).eval()
    support, masks, query = torch.rand(1, 2, 3, 64, 64), example_masks(2, 64), torch.rand(1, 3, 64, 64)
    with torch.no_grad(), FlopCounterMode(display=False) as whole:
        state = network.enrol(support, masks)
    enrolled = whole.get_total_flops()
    with torch.no_grad(), whole:
        network.segment(state, query)
    assert cost.episode_gflops * 1e9 == pytest.approx(enrolled + whole.get_total_flops(), rel=1e-9)
    assert cost.enrolled_gflops * 1e9 == pytest.approx(whole.get_total_flops(), rel=1e-9)
    assert cost.all_parameters == sum(value.numel() for value in network.parameters())


def test_more_shots_and_more_levels_cost_more() -> None:
    def episode(levels: tuple[int, ...], shots: int) -> float:
        return measure_cost(configure("matching", levels=levels), "resnet18", shots, 64).episode_gflops

    assert episode((2,), 1) < episode((2, 3), 1) < episode((2, 3), 5)


def test_a_dilated_backbone_costs_what_its_larger_maps_cost() -> None:
    plain, dilated = (
        {part.name: part.query for part in measure_cost(config, "resnet50").parts}
        for config in (configure("matching", levels=(2, 3)), configure("matching", levels=(2, 3), stride=8))
    )
    assert plain["backbone, to level 2"] == dilated["backbone, to level 2"]
    # all of layer 3 on 25 x 25 places instead of 13 x 13, but for what stands before the stride
    before = 2 * 512 * 256 * 25 * 25 / 1e9
    ratio = (dilated["backbone, to level 3"] - before) / (plain["backbone, to level 3"] - before)
    assert ratio == pytest.approx((25 / 13) ** 2, rel=1e-6)


def test_times_are_of_the_runs_after_the_warm_up() -> None:
    calls: list[int] = []
    times = repeat(lambda: calls.append(0), repeats=5, warm_up=2)
    assert (len(calls), len(times.milliseconds)) == (7, 5)
    assert Times((3.0, 1.0, 2.0)).median == 2.0
    assert str(Times((3.0, 1.0, 2.0))) == "2.0 ms (1.0 to 3.0)"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_latency_is_measured_and_memory_known(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lerenet.device.has_bf16", lambda kind: True)
    config = configure(side=8, width=8)
    times = measure_latency(config, "resnet18", 1, 64, precision, repeats=2)
    assert [len(found.milliseconds) for found in times] == [2, 2]
    assert peak_megabytes() > 10


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["cost", *words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("has", [True, False])
def test_the_command_prints_cost_parts_and_times(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lerenet.cli.cost.has_bf16", lambda kind: has)
    words = ("--backbone", "resnet18", "--levels", "1,2", "--breakdown", "--latency", "--repeats", "1")
    shown = run(*words)
    for text in ("one episode", "class enrolled", "to level 2", "relations to the support", "fp32", "MiB"):
        assert text in shown
    assert ("bf16" in shown) == has
    assert "to level 3" not in shown


@pytest.mark.usefixtures("tiny")
def test_the_command_counts_a_dilated_backbone_and_says_so() -> None:
    words = ("--recipe", "lerenet", "--backbone", "resnet18", "--levels", "1,2,3")
    plain, dilated = run(*words), run(*words, "--stride", "8", "--latency", "--repeats", "1")
    assert "stride" not in plain
    assert "resnet18 at stride 8" in dilated

    def gflops(shown: str) -> float:
        row = next(line for line in shown.splitlines() if "one episode" in line)
        return float(row.split("GFLOP")[0].split()[-1])

    assert gflops(dilated) > 1.3 * gflops(plain)


@pytest.mark.usefixtures("tiny")
def test_the_command_prints_table_5(monkeypatch: pytest.MonkeyPatch) -> None:
    from lerenet.cli import cost as show

    monkeypatch.setattr(show, "BACKBONES", ("resnet18",))
    shown = run("--table5")
    assert shown.count("69.85") == 2
    assert "83.69" in shown
    assert [line.split()[0] for line in shown.splitlines() if "resnet18" in line] == ["lerenet"]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "words", [["--recipe", "nothing"], ["--levels", "1;2"], ["--levels", "9"], ["--stride", "16"]]
)
def test_a_wrong_recipe_level_or_stride_is_named(words: list[str]) -> None:
    done = CliRunner().invoke(app, ["cost", *words])
    assert isinstance(done.exception, ParamsError)
    assert words[1] in str(done.exception)
