"""The paper's protocol as it is, from watched trainings: groups mixed, one pass, the best epoch on the test fold.

The only numbers that stand beside the printed ones. Every choice of an epoch here is made on the test episodes, and
mIoU and FB-IoU are the maxima of each, apart: no model has both, and none was known before the test.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean

from lerenet.cells import Cell
from lerenet.evaluation.metrics import METRICS, MIOU
from lerenet.report.load import Loaded, Model

PROTOCOL = "paper"
NOTE = (
    "The paper's protocol as it is: groups mixed, one pass, each fold's best epoch **on the test episodes**, mIoU "
    "and FB-IoU maxima apart. It tells what the paper's way of measuring gives here, nothing about images to come."
)


@dataclass(frozen=True)
class BestRow:
    """A model: each fold's best mIoU and its epoch, means over the seeds; of each metric the mean of its maxima."""

    model: Model
    folds: list[tuple[float, float] | None]  # points, epoch
    scores: dict[str, float]

    @property
    def cells(self) -> list[str]:
        """Folds as ``31.2 (epoch 40)``, then the metrics."""
        folds = ["-" if best is None else f"{best[0]:.1f} (epoch {best[1]:.0f})" for best in self.folds]
        return [*folds, *(f"{self.scores[metric.name]:.1f}" for metric in METRICS)]


def best_rows(loaded: Loaded) -> list[BestRow]:
    """A row for each model whose trainings were watched (``train.watch``)."""
    rows = [_row(loaded, model) for model in loaded.models if not model.floor]
    return [row for row in rows if any(row.folds)]


def _row(loaded: Loaded, model: Model) -> BestRow:
    cells = [cell for cell in loaded.cells_of(model) if _column(MIOU.name) in loaded.curves.get(cell.key, ())]
    by_fold = {fold: [cell for cell in cells if cell.split == fold] for fold in loaded.folds_asked}
    best = {fold: _best(loaded, of, MIOU.name) for fold, of in by_fold.items() if of}
    scores = {
        metric.name: mean(_best(loaded, of, metric.name)[0] for of in by_fold.values() if of) if best else 0.0
        for metric in METRICS
    }
    return BestRow(model, [best.get(fold) for fold in loaded.folds_asked], scores)


def _best(loaded: Loaded, cells: list[Cell], name: str) -> tuple[float, float]:
    """Largest score of each cell's curve and its epoch, means over the cells."""
    curves = [loaded.curves[cell.key] for cell in cells]
    tops = [curve.nlargest(1, _column(name)) for curve in curves]
    return mean(float(top[_column(name)].iloc[0]) for top in tops), mean(
        float(top["epoch"].iloc[0]) for top in tops
    )


def _column(name: str) -> str:
    return f"{name}_{PROTOCOL}"
