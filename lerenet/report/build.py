"""One self-contained HTML page, ``metrics.json``, ``plots/*.csv`` and the results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lerenet.files import atomic_dir, write_json, write_text
from lerenet.layout import Cell
from lerenet.params import Params, load_params
from lerenet.report import plots, tables
from lerenet.report.choose import shown_model
from lerenet.report.comparison import OVER, sections
from lerenet.report.costs import NOTE, CostRow, cost_rows
from lerenet.report.facts import facts
from lerenet.report.figures import RULE, figures
from lerenet.report.findings import Finding, findings, headline
from lerenet.report.intervals import class_intervals
from lerenet.report.load import Loaded, Model, load
from lerenet.report.paper import beside, printed, printed_cost
from lerenet.report.schedule import PAPER_EPOCHS, kept_sentences, schedule, short_runs

Main = dict[int, list[tables.MainRow]]
ClassTable = dict[str, tuple[float, float, float]]
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
    loaded = load(artifacts, params)
    main = {shots: tables.main_rows(loaded, shots, params) for shots in loaded.shots}
    clean, found = tables.clean_rows(loaded), findings(loaded, params)
    per_class = _class_intervals(loaded, params)
    page = _page(loaded, params, main, clean, found, per_class)
    write_text(Path(out) / "report.html", page)
    write_json(Path(out) / "metrics.json", tables.metrics(main, clean, found))
    _write_plots(loaded, per_class, Path(out) / "plots")


def _compared(loaded: Loaded, params: Params) -> list[Model]:
    """The shown model and matching, as far as they were evaluated."""
    pair = (shown_model(loaded, params), loaded.model("matching"))
    return [model for model in pair if model is not None]


def _class_intervals(loaded: Loaded, params: Params) -> dict[int, dict[str, ClassTable]]:
    models = _compared(loaded, params)
    return {
        shots: {m.id: class_intervals(loaded.counts_of(m.id, shots), params) for m in models}
        for shots in loaded.shots
    }


# -- the page -----------------------------------------------------------------------------------------


def _page(
    loaded: Loaded,
    params: Params,
    main: Main,
    clean: list[tables.CleanRow],
    found: list[Finding],
    per_class: dict[int, dict[str, ClassTable]],
) -> str:
    environment = Environment(
        loader=PackageLoader("lerenet.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = shown_model(loaded, params)
    compared = sections(loaded, params)
    costs = cost_rows(compared, loaded, params)
    return environment.get_template("template.html.j2").render(
        facts=facts(loaded, params),
        loaded=loaded,
        params=params,
        main={shots: tables.summary(rows, params, shots) for shots, rows in main.items()},
        tables=compared,
        costs=costs,
        cost_note=NOTE,
        cost_plot=_cost_plot(costs),
        schedules={model.id: schedule(loaded, model) for model in loaded.models if not model.floor},
        short=short_runs(loaded),
        paper_epochs=PAPER_EPOCHS,
        over=OVER,
        best={shots: _best(tables.summary(rows, params, shots)) for shots, rows in main.items()},
        clean=clean,
        findings=found,
        headline=headline(found, loaded, params),
        kept=kept_sentences(loaded, params),
        class_folds=tables.class_folds(loaded),
        class_scores={shots: tables.class_scores(loaded, shots) for shots in loaded.shots},
        seconds=tables.stage_seconds(loaded),
        beside={shots: beside(loaded, shots) for shots in loaded.shots},
        printed=printed(),
        printed_cost=printed_cost(),
        shown=shown,
        pictures=figures(loaded, shown, _beside(loaded, shown)),
        rule=RULE,
        classes=_class_rows(loaded),
        figures=_figures(loaded, params, per_class),
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


def _best(rows: list[tables.MainRow]) -> set[tuple[str, int]]:
    """(model id, column) of the highest score of each fold, of the mean (3) and of FB-IoU (4)."""
    found = set()
    for column in range(5):
        scores = {row.model.id: (*row.folds, row.mean, row.fb)[column] for row in rows if not row.missing}
        known = {name: score.value for name, score in scores.items() if score is not None}
        if len(known) > 1:
            found.add((max(known, key=lambda name: known[name]), column))
    return found


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


def _figures(
    loaded: Loaded, params: Params, per_class: dict[int, dict[str, ClassTable]]
) -> dict[str, list[tuple[str, Markup]]]:
    """Section to its figures: (caption, SVG). The SVG is matplotlib's, which escapes its texts."""
    found: dict[str, list[tuple[str, Markup]]] = {"curves": [], "classes": [], "size": [], "foreground": []}
    for name, by_cell in _curves_by_recipe(loaded).items():
        found["curves"].append((name, Markup(plots.curves(by_cell, name))))
    for shots, series in per_class.items():
        caption = f"{shots}-shot"
        order = [
            cls for cls in tables.class_folds(loaded) if all(cls in values for values in series.values())
        ]
        bars = {name: [values[cls] for cls in order] for name, values in series.items()}
        if order and bars:
            found["classes"].append((caption, Markup(plots.class_bars(order, bars, caption))))
        counts = {m.id: loaded.counts_of(m.id, shots) for m in _compared(loaded, params)}
        counts = {name: rows for name, rows in counts.items() if len(rows)}
        if counts:
            found["size"].append((caption, Markup(plots.size_scatter(counts, caption))))
    if loaded.catalog is not None and (loaded.catalog["kind"] == "defect").any():
        found["foreground"].append(("", Markup(plots.foreground(loaded.catalog))))
    return found


def _curves_by_recipe(loaded: Loaded) -> dict[str, dict[tuple[str, int], pd.DataFrame]]:
    """Recipe, backbone and shots to the curves of its splits and seeds."""
    table: dict[str, dict[tuple[str, int], pd.DataFrame]] = {}
    for key, rows in loaded.curves.items():
        cell = Cell.parse(key)
        name = f"{cell.recipe}, {cell.backbone}, {cell.shots}-shot training"
        table.setdefault(name, {})[cell.split, cell.seed] = rows
    return table


# -- files for DVC --------------------------------------------------------------------------------------


def _write_plots(loaded: Loaded, per_class: Mapping[int, dict[str, ClassTable]], out: Path) -> None:
    classes = [
        {"shots": shots, "model": model, "cls": cls, "iou": iou, "low": low, "high": high}
        for shots, models in per_class.items()
        for model, values in models.items()
        for cls, (iou, low, high) in values.items()
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
    return results(load(artifacts, params), params)
