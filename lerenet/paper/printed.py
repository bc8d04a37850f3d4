"""The numbers that the paper prints, as data: other images, other protocol, never compared as equals."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

from lerenet.evaluation.metrics import METRICS

BACKBONES = {"vgg16": "VGG16", "resnet50": "ResNet50", "resnet101": "ResNet101"}


@dataclass(frozen=True)
class PrintedRow:
    """One printed row: mIoU a fold, and the means that the paper has, by metric; digits as printed."""

    table: int
    backbone: str
    method: str
    shots: int
    folds: tuple[str, str, str]
    scores: dict[str, str]


@dataclass(frozen=True)
class PrintedCost:
    """One row of Table 5."""

    method: str
    gflops: str
    parameters: str


def _rows(name: str) -> list[dict[str, str]]:
    text = files("lerenet.paper").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def printed() -> list[PrintedRow]:
    """Every row of Tables 2, 3, 4, 6 and 7, digits as printed."""
    return [
        PrintedRow(
            int(row["table"]),
            BACKBONES[row["backbone"]],
            row["method"],
            int(row["shots"]),
            (row["fold0"], row["fold1"], row["fold2"]),
            {metric.name: row[metric.name] for metric in METRICS if metric.name in row},
        )
        for row in _rows("results.csv")
    ]


def printed_cost() -> list[PrintedCost]:
    """Table 5: floating-point operations (G) and learnable parameters (M)."""
    return [
        PrintedCost(row["method"], row["gflops"], row["learnable_params_million"])
        for row in _rows("cost.csv")
    ]
