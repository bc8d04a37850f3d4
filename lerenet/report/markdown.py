"""The results of a run as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lerenet.evaluation.metrics import METRICS, MIOU
from lerenet.paper.printed import PrintedRow, printed
from lerenet.params import KNOWN
from lerenet.report import tables
from lerenet.report.as_printed import NOTE as NOTE_AS_PRINTED
from lerenet.report.comparison import OVER, TableRow
from lerenet.report.costs import NOTE, CostRow
from lerenet.report.data import Data
from lerenet.report.intervals import Gain
from lerenet.report.live import HEAD, LiveRow, Point, counts
from lerenet.report.load import KNOWN_CLASSES
from lerenet.report.schedule import PAPER_EPOCHS

LIVE = (
    "Classes that are enrolled: each image is read by what was learnt without its group, reader and thresholds chosen "
    "without its fold. With some of the examples: matching; with all: the reader that was chosen. See "
    "[inspect.md](inspect.md)."
)
OTHERS = tuple(metric.title for metric in METRICS if metric is not MIOU)


def results(data: Data) -> str:
    """Facts, findings, tables, differences, clean queries and wall time, ready for ``docs/results.md``."""
    resampling = data.params.evaluation
    said = [one.sentence for one in data.headline] + data.kept
    parts = [
        "# Results",
        "Written by `lerenet results` from the artifacts of a run. Don't edit: run it again.",
        _table(("Run", ""), [(name, f"`{value}`") for name, value in data.facts.items()]),
        "\n".join(f"- {sentence}" for sentence in said),
        f"Scores are points of IoU (0 to 100) with {100 * resampling.confidence:.0f} % intervals from resampling the "
        f"episodes ({resampling.draws:,} draws, seed {data.params.seed}). [protocol.md](protocol.md) defines them.",
    ]
    if data.loaded.skipped:
        parts.append(f"Left out, evaluated on other episodes than today's: {', '.join(data.loaded.skipped)}.")
    if data.short:
        parts.append(f"Trained shorter than the paper's schedule ({PAPER_EPOCHS} epochs, three folds):")
        parts.append("\n".join(f"- `{model.id}`: {text}" for model, text in data.short))
    if data.live:
        parts += ["## Live model", LIVE, _live(data.live), _learning(data.live)]
    parts += _scores(data)
    if data.best_epochs:
        parts += ["## As the paper measures", NOTE_AS_PRINTED, _best(data)]
    if data.known:
        found = "\n".join(f"- {one.sentence}" for one in data.known.headline)
        parts += ["## Known classes", KNOWN_CLASSES, found, *_scores(data.known)]
    if data.costs:
        parts += ["## Accuracy against cost", NOTE, _costs(data.costs)]
    if data.findings:
        parts += ["## Beside what needs no training", _beside(data)]
    parts += ["## Clean queries", _clean(data.clean), "## Wall time", _times(data.seconds)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _scores(data: Data) -> list[str]:
    """The main table and the paper's, of one question."""
    folds, known = data.loaded.folds_asked, ", known classes" * (data.loaded.question == KNOWN)
    parts = []
    for shots, rows in data.main.items():
        parts += [f"## {shots}-shot{known}", _main(rows, folds)]
    for section in data.sections:
        for shots, lines in section.rows.items():
            beside = section.printed.get(shots, [])
            parts += [f"## {section.title}, {shots}-shot{known}", _section(lines, beside, folds)]
    return parts


def _best(data: Data) -> str:
    """Our rows, then the printed ones of every table."""
    head = ("method", *data.loaded.folds_asked, *(metric.title for metric in METRICS))
    lines = [(f"{row.model.label} ({row.model.detail})", *row.cells) for row in data.best_epochs]
    for line in printed():
        name = f"*as printed, Table {line.table}, {line.shots}-shot:* {line.method} ({line.backbone})"
        lines.append((name, *line.folds, *(line.scores.get(metric.name, "") for metric in METRICS)))
    return _table(head, lines)


def _live(rows: list[LiveRow]) -> str:
    return _table(("class", "IoU", *HEAD), [(row.cls, _score(row.all), *row.cells()) for row in rows])


def _learning(rows: list[LiveRow]) -> str:
    """Classes in rows, numbers of examples in columns."""
    shown = counts(row.curve for row in rows)
    lines = []
    for row in rows:
        points = {point.count: point for point in row.curve}
        lines.append((row.cls, *(_score(points.get(count)) for count in shown)))
    return _table(("class, IoU by examples", *shown), lines)


def _beside(data: Data) -> str:
    """Each trained model's difference from matching, on all folds and on each."""
    gains, folds = data.intervals.gains, data.loaded.folds_asked
    rows = [
        (
            one.model.id,
            str(one.shots),
            one.floor.label,
            _gain(one.gain),
            *(_gain(gains.get((one.floor.id, one.model.id, one.shots, fold))) for fold in folds),
        )
        for one in data.findings
    ]
    head = ("trained", "shots", "against, without training", "difference, mIoU", *folds)
    return _table(head, rows)


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _score(score: tables.Score | Point | None) -> str:
    if score is None:
        return "-"
    return f"{score.text} ({score.interval})" if score.interval else score.text


def _main(rows: list[tables.MainRow], folds: Sequence[str]) -> str:
    head = ("model", *folds, f"mean {MIOU.title}", *OTHERS, f'{MIOU.title}, protocol "paper"')
    lines = []
    for row in rows:
        name = f"{row.model.label} ({row.model.detail})"
        lines.append((name, *map(_score, row.folds), *_means(row), _score(row.paper[MIOU.name])))
    return _table(head, lines)


def _means(row: tables.MainRow) -> list[str]:
    """mIoU and every other metric, means over the folds."""
    return [_mean(row), *(_score(score) for name, score in row.scores.items() if name != MIOU.name)]


def _section(rows: list[TableRow], beside: list[PrintedRow], folds: Sequence[str]) -> str:
    """Our rows, then the printed ones, which are of other images and another protocol."""
    head = (
        "method", *folds, f"mean {MIOU.title}", *OTHERS, "over lerenet", *OVER, "clean", "epochs", "kept",
    )  # fmt: skip
    lines = []
    for row in rows:
        name = f"{row.method} ({row.note})" if row.note else row.method
        scores = [*map(_score, row.main.folds), *_means(row.main)]
        clean = row.clean.text if row.clean else "-"
        gains = [_gain(row.over_reference), *(_gain(gain) for gain in row.over_matching)]
        epochs = (row.schedule.epochs_text, row.schedule.kept_text) if row.schedule else ("", "")
        lines.append((name, *scores, *gains, clean, *epochs))
    for line in beside:
        name = f"*as printed, other images and protocol:* {line.method} ({line.backbone})"
        cells = (name, *line.folds, *(line.scores.get(metric.name, "") for metric in METRICS))
        lines.append((*cells, *[""] * (len(head) - len(cells))))
    return _table(head, lines)


def _costs(costs: list[CostRow]) -> str:
    head = ("method", "mean mIoU", "learnable parameters", "GFLOP, episode", "GFLOP, enrolled", "head, ms",
            "training, min")  # fmt: skip
    rows = [
        (
            f"{cost.method} ({cost.note})" if cost.note else cost.method,
            _score(cost.mean),
            "-" if cost.parameters is None else f"{cost.parameters:,}",
            f"{cost.episode:.1f}",
            f"{cost.enrolled:.1f}",
            "-" if cost.milliseconds is None else f"{cost.milliseconds:.0f}",
            "-" if cost.minutes is None else f"{cost.minutes:.1f}",
        )
        for cost in costs
    ]
    return _table(head, rows)


def _gain(gain: Gain | None) -> str:
    return "-" if gain is None else f"{gain.gain:+.1f} ({gain.low:+.1f} to {gain.high:+.1f})"


def _mean(row: tables.MainRow) -> str:
    spread = f", seeds {row.spread.low:.1f} to {row.spread.high:.1f}" if row.spread else ""
    folds = f" ({len(row.folds) - row.missing} folds)" if row.missing else ""
    return f"{_score(row.mean)}{spread}{folds}"


def _clean(clean: list[tables.CleanRow]) -> str:
    rows = [
        (
            f"{row.model.label} ({row.model.detail})",
            str(row.shots),
            str(row.episodes),
            f"{100 * row.false_share:.2f} %",
            f"{100 * row.images_clean_share:.1f} %",
        )
        for row in clean
    ]
    head = ("model", "shots", "episodes", "pixels falsely marked", "images left clean")
    return _table(head, rows) if rows else "No clean queries were evaluated."


def _times(stages: list[tuple[str, int, float]]) -> str:
    rows = [(stage, str(n), f"{seconds:.1f} s") for stage, n, seconds in stages]
    return _table(("stage", "cells", "wall time, summed"), rows)
