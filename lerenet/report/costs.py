"""What each row of Table 2 costs beside what it scores: parameters, operations, time."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from lerenet.cost.flops import Cost, measure_cost
from lerenet.files import read_json
from lerenet.models import configure
from lerenet.models.backbones.factory import create_backbone
from lerenet.models.config import NetworkConfig, recipe_network
from lerenet.models.lerenet.relations import matching_config
from lerenet.params import Params
from lerenet.report.comparison import Section, TableRow
from lerenet.report.load import Loaded, Model
from lerenet.report.tables import MainRow, Score

TABLE = 2
NOTE = (  # what the columns are
    "The 1-shot rows of Table 2, cheapest query first. GFLOP: 2 for a multiply-add, backbone included, one support and "
    "one query; enrolled: the query alone. Learnable parameters leave out a frozen backbone and base learner. Head: "
    "milliseconds of an episode in the evaluation, features cached. Training: minutes of one cell, without features "
    "and validation, on the machine named above."
)


@dataclass(frozen=True)
class CostRow:
    """One model; what was not measured is None.

    Attributes:
        parameters: learnable ones, without a frozen backbone and base learner.
        episode, enrolled: GFLOP of a support and a query, and of a query whose class is enrolled.
        milliseconds: of an episode in the evaluation, features cached: the head alone.
        minutes: training of one cell, without features and validation.
    """

    method: str
    note: str
    mean: Score | None
    parameters: int | None
    episode: float
    enrolled: float
    milliseconds: float | None
    minutes: float | None


def cost_rows(papers: list[Section], loaded: Loaded, params: Params) -> list[CostRow]:
    """The 1-shot rows of Table 2 as far as their networks are known, cheapest query first."""
    section = next((one for one in papers if one.number == TABLE), None)
    rows = [] if section is None else section.rows.get(1, [])
    costs = [_row(row, loaded, params) for row in rows if _config(row.main.model, params) is not None]
    return sorted(costs, key=lambda cost: cost.enrolled)


def _config(model: Model, params: Params) -> NetworkConfig | None:
    if model.recipe in params.recipes:
        return recipe_network(params, model.recipe)
    name = model.id.removesuffix(f"-{model.backbone}")
    if name == "matching":
        return configure("matching")
    return _matching_lerenet(model.backbone, params.levels) if name == "matching_lerenet" else None


def _matching_lerenet(backbone: str, levels: tuple[int, ...]) -> NetworkConfig:
    with torch.device("meta"):
        whole = create_backbone(backbone, "random", levels)
    return matching_config(
        dict(zip(whole.levels, whole.channels, strict=True)), configure().turns_on(backbone)
    )


@cache
def _cost(config: NetworkConfig, backbone: str, size: int) -> Cost:
    return measure_cost(config, backbone, 1, size)


def _row(row: TableRow, loaded: Loaded, params: Params) -> CostRow:
    model = row.main.model
    config = _config(model, params)
    assert config is not None
    cost = _cost(config, model.backbone, params.image_size)
    cells = [cell.key for cell in loaded.cells_of(model)]
    trained = [_metrics(loaded.root / "train" / key) for key in cells]
    evaluated = [_metrics(loaded.root / "evaluate" / key) for key in cells]
    seconds = [float(loaded.curves[key]["seconds"].sum()) for key in cells if key in loaded.curves]
    speeds = [float(one["ms_per_episode"]) for one in evaluated if "ms_per_episode" in one]
    return CostRow(
        row.method,
        ", ".join(part for part in (row.note, _folds(row.main)) if part),
        row.main.mean,
        next((int(one["parameters"]) for one in trained if "parameters" in one), 0 if model.floor else None),
        cost.episode_gflops,
        cost.enrolled_gflops,
        statistics.median(speeds) if speeds else None,
        statistics.mean(seconds) / 60 if seconds else None,
    )


def _folds(row: MainRow) -> str:
    """What keeps a mean from being compared with one of all folds."""
    return f"{len(row.folds) - row.missing} of {len(row.folds)} folds" if row.missing else ""


def _metrics(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    return dict(read_json(path)) if path.is_file() else {}
