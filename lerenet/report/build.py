"""One self-contained HTML page, ``metrics.json``, ``plots/*.csv`` and the results as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lerenet.cells import Cell
from lerenet.evaluation.metrics import METRICS, MIOU
from lerenet.files import atomic_dir, write_json, write_text
from lerenet.paper.printed import printed, printed_cost
from lerenet.params import KNOWN, QUESTIONS, Params, load_params
from lerenet.report import plots, tables
from lerenet.report.as_printed import NOTE as AS_PRINTED
from lerenet.report.comparison import OVER, beside
from lerenet.report.costs import NOTE, CostRow
from lerenet.report.data import Data, collect
from lerenet.report.figures import RULE, figures
from lerenet.report.live import HEAD
from lerenet.report.load import KNOWN_CLASSES, Loaded, Model
from lerenet.report.schedule import PAPER_EPOCHS

BESIDE = ("matching", "baseline")  # what stands beside the shown model in the pictures


def build_report(artifacts: Path, params: Params, out: Path) -> None:
    """Write ``report.html``, ``metrics.json`` and ``plots/`` into ``out``, each whole or not at all.

    Args:
        artifacts: the stage folders; what is missing there is left out of the page.
        params: settings; the shipped cell is the model that figures show.
        out: usually ``artifacts/report``.

    Raises:
        LerenetError: a file that is there but can't be read, or a disk that is full.
    """
    data = collect(artifacts, params)
    write_text(Path(out) / "report.html", _page(data))
    write_json(Path(out) / "metrics.json", _metrics(data))
    _write_plots(data, Path(out) / "plots")


def _metrics(data: Data) -> dict[str, float]:
    """Of novel classes, and under ``known.`` of known ones."""
    flat = tables.metrics(data.rows, data.clean, data.findings, data.loaded.folds_asked)
    return flat | (
        {f"{KNOWN}.{name}": value for name, value in _metrics(data.known).items()} if data.known else {}
    )


# -- the page -----------------------------------------------------------------------------------------


def _page(data: Data) -> str:
    environment = Environment(
        loader=PackageLoader("lerenet.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loaded, shown = data.loaded, data.shown
    return environment.get_template("template.html.j2").render(
        **vars(data),
        metrics=METRICS,
        main_metric=MIOU,
        cost_note=NOTE,
        known_classes=KNOWN_CLASSES,
        as_printed=AS_PRINTED.replace("*", ""),
        cost_plot=_cost_plot(data.costs),
        live_head=HEAD,
        learning=Markup(plots.learning({row.cls: row.curve for row in data.live})) if data.live else None,
        paper_epochs=PAPER_EPOCHS,
        over=OVER,
        best=_best,
        beside={shots: beside(loaded, shots) for shots in loaded.shots},
        printed=printed(),
        printed_cost=printed_cost(),
        pictures=figures(loaded, shown, _beside(loaded, shown)),
        rule=RULE,
        classes=_class_rows(loaded),
        figures=_figures(data),
    )


def _cost_plot(costs: list[CostRow]) -> Markup | None:
    """Accuracy against cost, from two models on."""
    points = []
    for cost in costs:
        if cost.mean is not None:
            value = cost.mean.value
            low = value if cost.mean.low is None else cost.mean.low
            high = value if cost.mean.high is None else cost.mean.high
            name = f"{cost.method}, {cost.note}" if cost.note else cost.method
            points.append((name, cost.enrolled, value, low, high))
    return Markup(plots.accuracy_cost(points)) if len(points) > 1 else None


def _best(rows: list[tables.MainRow]) -> set[tuple[str, str]]:
    """(model id, place of a fold or metric) of the best score of each column."""
    best = set()
    whole = [row for row in rows if not row.missing]
    columns: dict[str, dict[str, tables.Score | None]] = {
        str(place): {row.model.id: row.folds[place] for row in whole}
        for place in range(len(rows[0].folds) if rows else 0)
    }
    columns |= {metric.name: {row.model.id: row.scores[metric.name] for row in whole} for metric in METRICS}
    for name, scores in columns.items():
        values = {model: score.value for model, score in scores.items() if score is not None}
        lowest = any(metric.name == name and not metric.higher_is_better for metric in METRICS)
        if len(values) > 1:
            best.add(((min if lowest else max)(values, key=lambda model: values[model]), name))
    return best


def _beside(loaded: Loaded, shown: Model | None) -> list[Model]:
    """Matching and Baseline with the shown model's backbone, as far as they were evaluated."""
    return [
        model
        for name in BESIDE
        for model in loaded.models
        if shown is not None
        and (model.recipe or model.label.lower()) == name
        and model.backbone == shown.backbone
        and model.trained_shots in (0, shown.trained_shots)
    ]


def _class_rows(loaded: Loaded) -> list[dict[str, Any]]:
    """One row a class: fold, defect and clean images, groups, foreground in percent."""
    if loaded.catalog is None:
        return []
    rows = []
    for (fold, cls), images in loaded.catalog.groupby(["fold", "cls"]):
        defects = images[images["kind"] == "defect"]
        share = 100 * defects["foreground"]
        row = {"fold": fold, "cls": cls, "defect": len(defects), "clean": len(images) - len(defects)}
        spread = {"low": share.min(), "median": share.median(), "high": share.max()}
        rows.append({**row, "groups": defects["group"].nunique(), **spread})
    return rows


def _figures(data: Data) -> dict[str, list[tuple[str, Markup]]]:
    """Section to its figures: (caption, SVG). The SVG is matplotlib's, which escapes its texts."""
    by_section: dict[str, list[tuple[str, Markup]]] = {
        "curves": [],
        "classes": [],
        "size": [],
        "foreground": [],
    }
    loaded = data.loaded
    for name, by_cell in _curves_by_recipe(loaded).items():
        by_section["curves"].append((name, Markup(plots.curves(by_cell, name))))
    for shots in loaded.shots:
        caption, series = f"{shots}-shot", {m.id: data.intervals.classes[m.id, shots] for m in data.compared}
        order = [cls for cls in data.class_folds if all(cls in values for values in series.values())]
        bars = {name: [values[cls] for cls in order] for name, values in series.items()}
        if order and bars:
            by_section["classes"].append((caption, Markup(plots.class_bars(order, bars, caption))))
        counts = {m.id: loaded.counts_of(m.id, shots) for m in data.compared}
        counts = {name: rows for name, rows in counts.items() if len(rows)}
        if counts:
            by_section["size"].append((caption, Markup(plots.size_scatter(counts, caption))))
    if loaded.catalog is not None and (loaded.catalog["kind"] == "defect").any():
        by_section["foreground"].append(("", Markup(plots.foreground(loaded.catalog))))
    return by_section


def _curves_by_recipe(loaded: Loaded) -> dict[str, dict[tuple[str, int], pd.DataFrame]]:
    """Recipe, backbone and shots to the curves of its splits and seeds."""
    table: dict[str, dict[tuple[str, int], pd.DataFrame]] = {}
    for key, rows in loaded.curves.items():
        cell = Cell.parse(key)
        about = ", known classes" * (cell.split in QUESTIONS[KNOWN])
        name = f"{cell.recipe}, {cell.backbone}, {cell.shots}-shot training{about}"
        table.setdefault(name, {})[cell.split, cell.seed] = rows
    return table


# -- files for DVC --------------------------------------------------------------------------------------


def _write_plots(data: Data, out: Path) -> None:
    loaded = data.loaded
    classes = [
        {"shots": shots, "model": model.id, "cls": cls, "iou": iou, "low": low, "high": high}
        for shots in loaded.shots
        for model in data.compared
        for cls, (iou, low, high) in data.intervals.classes[model.id, shots].items()
    ]
    curves = [rows.assign(cell=key) for key, rows in loaded.curves.items()]
    names = ["shots", "model", "cls", "iou", "low", "high"]
    with atomic_dir(out) as folder:
        pd.DataFrame(classes, columns=names).to_csv(folder / "classes.csv", index=False)
        table = (
            pd.concat(curves)
            if curves
            else pd.DataFrame(columns=["epoch", "loss", "miou_validation", "cell"])
        )
        table.to_csv(folder / "curves.csv", index=False)


# -- Markdown -------------------------------------------------------------------------------------------


def results_markdown(artifacts: Path) -> str:
    """The last run's scores as Markdown: facts, main tables with intervals, clean queries, wall time.

    Settings are read from ``params.yaml`` beside ``artifacts``.
    """
    from lerenet.report.markdown import results

    artifacts = Path(artifacts).absolute()
    params = load_params(artifacts.parent / "params.yaml")
    return results(collect(artifacts, params))
