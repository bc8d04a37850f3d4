"""Figures as inline SVG. Text and axes take the page's text colour, so that dark mode works."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd

from lerenet.enrolment.curve import ALL
from lerenet.params import Known, SplitName
from lerenet.report.live import Point
from lerenet.report.live import counts as counts_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#123456"  # stands for the page's text colour in what matplotlib writes
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#8C8C00",
    "#7F7F7F",
)  # Okabe-Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Any]]:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9.5, "font.family": "sans-serif"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = [figure.add_subplot(rows, columns, place + 1) for place in range(columns * rows)]
    for axis in axes:
        axis.patch.set_alpha(0)
        axis.tick_params(colors=INK)
        axis.grid(axis="y", alpha=0.25, color=INK, linewidth=0.6)
        for name, spine in axis.spines.items():
            spine.set_visible(name in ("left", "bottom"))
            spine.set_color(INK)
    return figure, axes


def _svg(figure: Figure, title: str, salt: str) -> str:
    """The figure as an SVG element with a title for screen readers, without ids that clash or addresses."""
    from matplotlib import rc_context

    for axis in figure.axes:
        for label in (axis.title, axis.xaxis.label, axis.yaxis.label):
            label.set_color(INK)
    with io.StringIO() as out, rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(id="|url\(#|href="#)', rf"\1{salt}-", text).replace(INK, "currentColor")
    width = round(figure.get_figwidth() * 96)
    return text.replace(
        "<svg", f'<svg role="img" aria-label="{_escape(title)}" style="max-width:{width}px"', 1
    )


def _escape(text: str) -> str:
    from html import escape

    return escape(text, quote=True)


def _legend(axis: Any, **settings: Any) -> None:
    axis.legend(frameon=False, labelcolor=INK, **settings)


SPLITS = (*get_args(SplitName), *get_args(Known))  # each with its colour
LINES = ("-", "--", ":", "-.")  # of seeds
PANELS = {  # columns of a curve, left to right; one that no cell has is left out
    "loss": "training loss",
    "miou_validation": "mIoU on validation classes",
    "miou_groups": "mIoU on the test episodes",
}


def curves(tables: dict[tuple[str, int], pd.DataFrame], name: str) -> str:
    """Loss and mIoU, on validation and test episodes, against the epoch: a colour a split, a line style a seed.

    Args:
        tables: (split, seed) to the rows of its ``curve.csv``.
        name: of the recipe, for the alternative text.
    """
    there = [column for column in PANELS if any(_scored(rows, column) for rows in tables.values())]
    figure, axes = _figure(9, 2.9, columns=max(1, len(there)))
    seeds = sorted({seed for _, seed in tables})
    for (split, seed), rows in sorted(tables.items()):
        place = SPLITS.index(split)
        style = {
            "color": COLOURS[place],
            "marker": MARKERS[place],
            "markersize": 4 if len(rows) < 40 else 0,
            "linestyle": LINES[seeds.index(seed) % len(LINES)],
            "label": f"{split}, seed {seed}" if len(seeds) > 1 else split,
        }
        for axis, column in zip(axes, there, strict=False):
            if _scored(rows, column):
                values = rows.dropna(subset=[column]).groupby("epoch")[column].last()
                axis.plot(values.index, values.to_numpy(), **style)
    for axis, column in zip(axes, there, strict=False):
        axis.set(xlabel="epoch", ylabel=PANELS[column])
    shown = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(shown.values()), list(shown), frameon=False, labelcolor=INK, loc="outside right upper")
    return _svg(figure, f"Training loss and mIoU of {name} by epoch", f"curve-{_slug(name)}")


def _scored(rows: pd.DataFrame, column: str) -> bool:
    return column in rows and bool(rows[column].notna().any())


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def class_bars(classes: Sequence[str], series: dict[str, list[tuple[float, float, float]]], salt: str) -> str:
    """IoU of each class as bars with intervals, one group a class.

    Args:
        classes: class names, in order.
        series: model to (value, low, high) of each class, in points.
    """
    figure, (axis,) = _figure(9, 3.4)
    width = 0.8 / max(1, len(series))
    for place, (name, values) in enumerate(series.items()):
        table = np.array(values, float)
        x = np.arange(len(classes)) + (place - (len(series) - 1) / 2) * width
        errors = np.clip([table[:, 0] - table[:, 1], table[:, 2] - table[:, 0]], 0, None)
        axis.bar(x, table[:, 0], width * 0.92, label=name, color=COLOURS[place % len(COLOURS)])
        axis.errorbar(x, table[:, 0], errors, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    axis.set_xticks(range(len(classes)), list(classes), rotation=35, ha="right", parse_math=False)
    axis.set(ylabel="IoU (points)", ylim=(0, None))
    _legend(axis, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return _svg(figure, "IoU of each class with 95 % intervals", f"bars-{salt}")


def learning(curves: Mapping[str, Sequence[Point]]) -> str:
    """IoU of each class against the number of its examples, with intervals; the last point stands for all."""
    columns = 4
    height = -(-len(curves) // columns)
    figure, axes = _figure(9, 0.5 + 1.7 * height, columns, height)
    shown = counts_of(curves.values())
    for axis, (cls, points) in zip(axes, curves.items(), strict=False):
        x = [shown.index(point.count) for point in points]
        values = np.array([(point.iou, point.low, point.high) for point in points])
        if len(values):
            matched = [place for place, point in enumerate(points) if point.count != ALL]
            axis.plot([x[i] for i in matched], values[matched, 0], color=COLOURS[0], marker="o", markersize=4)
            errors = np.clip([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]], 0, None)
            axis.errorbar(x, values[:, 0], errors, fmt="none", ecolor=INK, elinewidth=0.8, capsize=2)
        if points and points[-1].count == ALL:
            axis.plot(x[-1], points[-1].iou, color=COLOURS[1], marker="D", markersize=6)
        axis.set(ylim=(0, 100), xlim=(-0.4, len(shown) - 0.6))
        axis.set_title(cls, fontsize=9.5, parse_math=False)
        axis.set_xticks(range(len(shown)), shown)
    for axis in axes[len(curves) :]:
        axis.set_visible(False)
    return _svg(figure, "IoU of each class's left-out images by the number of examples", "learning")


def size_scatter(counts: dict[str, pd.DataFrame], salt: str) -> str:
    """IoU of single episodes against the share of the picture that the defect covers.

    Args:
        counts: model to its episodes (tp, fp, fn, tn, iou); the first is drawn as points, all as the
            median of eight bins of equal numbers.
    """
    figure, (axis,) = _figure(9, 3.4)
    for place, (name, rows) in enumerate(counts.items()):
        pixels = rows[["tp", "fp", "fn", "tn"]].to_numpy(float)
        size = 100 * (pixels[:, 0] + pixels[:, 2]) / pixels.sum(axis=1)
        iou = 100 * rows["iou"].to_numpy(float)
        seen = size > 0
        colour = COLOURS[place % len(COLOURS)]
        if place == 0:
            axis.scatter(size[seen], iou[seen], s=9, alpha=0.5, color=colour, linewidths=0)
        bins = np.array_split(np.argsort(size[seen], kind="stable"), min(8, max(1, int(seen.sum()))))
        middle = [(np.median(size[seen][b]), np.median(iou[seen][b])) for b in bins if len(b)]
        axis.plot(*zip(*middle, strict=True), color=colour, marker=MARKERS[place], label=f"{name}, median")
    axis.set(
        xscale="log", xlabel="defect's share of the picture (%, logarithmic)", ylabel="IoU of the episode (%)"
    )
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.grid(axis="x", alpha=0.15, color=INK, linewidth=0.6)
    _legend(axis)
    return _svg(figure, "IoU of episodes against the size of the defect", f"size-{salt}")


def accuracy_cost(points: Sequence[tuple[str, float, float, float, float]]) -> str:
    """mIoU with its interval against the operations of a query, a point a model.

    Args:
        points: name, GFLOP, mIoU, low, high.
    """
    figure, (axis,) = _figure(9, 4.2)
    for place, (name, cost, value, low, high) in enumerate(points):
        colour = COLOURS[place % len(COLOURS)]
        marker = MARKERS[(place // len(COLOURS)) % len(MARKERS)]
        errors = [[max(0.0, value - low)], [max(0.0, high - value)]]
        axis.errorbar(cost, value, errors, fmt=marker, color=colour, markersize=7, capsize=3, label=name)
    axis.set(xscale="log", xlabel="GFLOP of a query, class enrolled (logarithmic)", ylabel="mIoU (points)")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "25" else "")
    axis.tick_params(axis="x", which="minor", colors=INK)
    axis.grid(axis="x", alpha=0.15, color=INK, linewidth=0.6)
    figure.legend(*axis.get_legend_handles_labels(), frameon=False, labelcolor=INK, loc="outside right upper")
    return _svg(figure, "mIoU against the operations of a query", "accuracy-cost")


def foreground(catalog: pd.DataFrame) -> str:
    """Foreground share of every defect image, one column of points a class, with its median."""
    figure, (axis,) = _figure(9, 3.2)
    defects = catalog[(catalog["kind"] == "defect") & (catalog["foreground"] > 0)]
    names = sorted(
        defects["cls"].unique(),
        key=lambda cls: float(defects.loc[defects["cls"] == cls, "foreground"].median()),
    )
    for place, name in enumerate(names):
        shares = 100 * np.sort(defects.loc[defects["cls"] == name, "foreground"].to_numpy(float))
        spread = np.linspace(-0.28, 0.28, len(shares)) if len(shares) > 1 else np.zeros(1)
        axis.scatter(place + spread, shares, s=8, alpha=0.5, color=COLOURS[0], linewidths=0)
        axis.hlines(np.median(shares), place - 0.36, place + 0.36, color=COLOURS[1], linewidth=2)
    axis.set_xticks(range(len(names)), names, rotation=35, ha="right", parse_math=False)
    axis.set(yscale="log", ylabel="foreground (%, logarithmic)")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return _svg(
        figure, "Foreground share of the defect images of each class; the bar is the median", "foreground"
    )
