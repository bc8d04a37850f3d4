"""The tables of ``lerenet cost``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from rich.box import HORIZONTALS
from rich.table import Table

from lerenet.cli.terminal import console
from lerenet.cost.flops import measure_cost
from lerenet.cost.latency import measure_latency, peak_megabytes
from lerenet.device import has_bf16
from lerenet.errors import ParamsError
from lerenet.models.config import NetworkConfig, network_config, recipe_network
from lerenet.paper.printed import printed_cost
from lerenet.paper.table5 import SIZE, paper_count
from lerenet.params import Params
from lerenet.progress import progress

RECIPES = ("lerenet", "paper", "authors", "baseline")
BACKBONES = ("efficientnet_lite0", "resnet50", "resnet101", "vgg16")


def chosen_network(params: Params, recipe: str, levels: str = "", stride: int | None = None) -> NetworkConfig:
    """The network of a recipe, with other ``levels`` ("1,2,3") or another ``stride`` when they are given.

    Raises:
        ParamsError: no such recipe, ``levels`` is no list of numbers, or this network can't be set so.
    """
    config = recipe_network(params, recipe)
    if levels:
        config = _changed(config, "levels", levels, recipe, _listed(levels))
    return config if stride is None else _changed(config, "stride", stride, recipe, stride)


def _listed(levels: str) -> list[int]:
    try:
        return [int(level) for level in levels.split(",")]
    except ValueError as error:
        raise ParamsError(f"--levels {levels}: not a list of levels", "give 0 to 4, e.g. 1,2,3") from error


def _changed(config: NetworkConfig, key: str, given: object, recipe: str, value: object) -> NetworkConfig:
    return network_config({**config.model_dump(), key: value}, f"--{key} {given}: {recipe}")


def _table(title: str, first: int, *columns: str) -> Table:
    """A table whose first ``first`` columns are words, the others numbers."""
    table = Table(title=title)
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index < first else "right", overflow="fold")
    return table


def _title(config: NetworkConfig, backbone: str, shots: int, image_size: int) -> str:
    stride = config.stride_on(backbone)
    seen = f"{backbone} at stride {stride}" if stride else backbone
    return f"{config.title}, {seen}, {shots}-shot, {image_size} x {image_size}"


def print_cost(config: NetworkConfig, backbone: str, shots: int, image_size: int) -> None:
    """Print the parameters and GFLOPs of an episode and of an enrolled query."""
    cost = measure_cost(config, backbone, shots, image_size)
    table = _table(_title(config, backbone, shots, image_size), 1, "what", "value")
    table.add_row("parameters, head (learned, backbone frozen)", f"{cost.head_parameters:,}")
    table.add_row("parameters, with the executed backbone", f"{cost.all_parameters:,}")
    table.add_row(f"one episode ({shots + 1} images)", f"{cost.episode_gflops:.2f} GFLOP")
    share = cost.enrolled_gflops / cost.episode_gflops if cost.episode_gflops else 1.0
    table.add_row("one query, class enrolled", f"{cost.enrolled_gflops:.2f} GFLOP ({share:.0%})")
    console().print(table)


def print_breakdown(config: NetworkConfig, backbone: str, shots: int, image_size: int) -> None:
    """Print where the GFLOPs go: by level of the backbone and by module of the head."""
    cost = measure_cost(config, backbone, shots, image_size)
    title = f"{_title(config, backbone, shots, image_size)}: GFLOP"
    table = _table(title, 1, "part", "support, once", "each query", "episode")
    for part in cost.parts:
        whole = part.support + part.query
        table.add_row(part.name, f"{part.support:.3f}", f"{part.query:.3f}", f"{whole:.3f}")
    table.add_section()
    once = cost.episode_gflops - cost.enrolled_gflops
    table.add_row("sum", f"{once:.3f}", f"{cost.enrolled_gflops:.3f}", f"{cost.episode_gflops:.3f}")
    console().print(table)


def print_latency(config: NetworkConfig, backbone: str, shots: int, image_size: int, repeats: int) -> None:
    """Print medians of repeated runs in each precision that the CPU has, and the peak memory of the process."""
    threads = torch.get_num_threads()
    title = f"{_title(config, backbone, shots, image_size)}: median (range) of {repeats}, {threads} threads"
    table = _table(title, 1, "precision", "episode", "query, class enrolled")
    for precision in ("fp32", "bf16") if has_bf16("cpu") else ("fp32",):
        times = measure_latency(config, backbone, shots, image_size, precision, repeats)
        table.add_row(precision, *map(str, times))
    console().print(table)
    console().print(
        f"peak memory of this process: {peak_megabytes():.0f} MiB (interpreter and torch included)"
    )


def print_table5(recipes: Mapping[str, NetworkConfig]) -> None:
    """Print Table 5 as the paper counts it, then every recipe and backbone counted by torch."""
    columns = ("recipe", "backbone", "head M", "all M", "1-shot", "enrolled", "5-shot", "enrolled")
    title = f"GFLOP of an episode and of an enrolled query, {SIZE} x {SIZE}, two images or six"
    table = _table(title, 2, *columns)
    table.box, table.collapse_padding = HORIZONTALS, True
    table.caption = "all: with the executed backbone; torch's counter, 2 a multiply-add, matrix products too"
    with progress("counting", len(recipes) * len(BACKBONES)) as tick:
        for name, config in recipes.items():
            for backbone in BACKBONES:
                table.add_row(name, backbone, *_counted(config, backbone))
                tick()
            table.add_section()
    console().print(_as_printed())
    console().print(table)


def _as_printed() -> Table:
    table = _table("Table 5, counted as the paper does", 1, "network", "G", "M")
    for row in printed_cost():
        table.add_row(f"{row.method}, as printed", row.gflops, row.parameters)
    for images in (3, 2):
        count = paper_count(images)
        name = f"LERENet, counted here, {images} images encoded"
        table.add_row(name, f"{count.gflops:.2f}", f"{count.parameters / 1e6:.2f}")
    table.caption = "VGG16-bn run to conv4_3, thop's count x 2; the scores that Table 5 prints are ResNet50's"
    return table


def _counted(config: NetworkConfig, backbone: str) -> list[str]:
    one, five = (measure_cost(config, backbone, shots, SIZE) for shots in (1, 5))
    sizes = [f"{value / 1e6:.2f}" for value in (one.head_parameters, one.all_parameters)]
    gflops = (one.episode_gflops, one.enrolled_gflops, five.episode_gflops, five.enrolled_gflops)
    return [*sizes, *(f"{value:.1f}" for value in gflops)]
