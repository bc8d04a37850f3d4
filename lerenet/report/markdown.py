"""The results of a run as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from lerenet.params import Params
from lerenet.report import tables
from lerenet.report.comparison import OVER, Row, sections
from lerenet.report.costs import NOTE, CostRow, cost_rows
from lerenet.report.facts import facts
from lerenet.report.findings import Finding, findings, headline
from lerenet.report.intervals import Gain, gain_over
from lerenet.report.load import FOLD_NAMES, Loaded
from lerenet.report.paper import PrintedRow
from lerenet.report.schedule import PAPER_EPOCHS, kept_sentences, short_runs


def results(loaded: Loaded, params: Params) -> str:
    """Facts, findings, tables, differences, clean queries and wall time, ready for ``docs/results.md``."""
    level = f"{100 * params.evaluation.confidence:.0f} %"
    found = findings(loaded, params)
    said = [one.sentence for one in headline(found, loaded, params)] + kept_sentences(loaded, params)
    parts = [
        "# Results",
        "Written by `lerenet results` from the last `dvc repro`. Don't edit: run it again.",
        _table(("Run", ""), [(name, f"`{value}`") for name, value in facts(loaded, params).items()]),
        "\n".join(f"- {sentence}" for sentence in said),
        f"Scores are points of IoU (0 to 100) with {level} intervals from resampling the episodes "
        f"({params.evaluation.draws:,} draws, seed {params.seed}). [protocol.md](protocol.md) defines them.",
    ]
    if loaded.skipped:
        parts.append(f"Left out, evaluated on other episodes than today's: {', '.join(loaded.skipped)}.")
    if short := short_runs(loaded):
        parts.append(f"Trained shorter than the paper's schedule ({PAPER_EPOCHS} epochs, three folds):")
        parts.append("\n".join(f"- `{model.id}`: {text}" for model, text in short))
    for shots in loaded.shots:
        parts += [f"## {shots}-shot", _main(loaded, params, shots)]
    compared = sections(loaded, params)
    for section in compared:
        for shots, rows in section.rows.items():
            parts += [f"## {section.title}, {shots}-shot", _section(rows, section.printed[shots])]
    if costs := cost_rows(compared, loaded, params):
        parts += ["## Accuracy against cost", NOTE, _costs(costs)]
    if found:
        parts += ["## Beside what needs no training", _beside(found, loaded, params)]
    parts += ["## Clean queries", _clean(loaded), "## Wall time", _times(loaded)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _beside(found: list[Finding], loaded: Loaded, params: Params) -> str:
    """Each trained model's difference from matching."""
    rows = [
        (one.model.id, str(one.shots), one.floor.label, _gain(one.gain), *_each_fold(one, loaded, params))
        for one in found
    ]
    head = ("trained", "shots", "against, without training", "difference, mIoU", *FOLD_NAMES)
    return _table(head, rows)


def _each_fold(one: Finding, loaded: Loaded, params: Params) -> list[str]:
    return [_gain(gain_over(loaded, one.floor, one.model, one.shots, params, fold)) for fold in FOLD_NAMES]


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _score(score: tables.Score | None) -> str:
    if score is None:
        return "-"
    return f"{score.text} ({score.interval})" if score.interval else score.text


def _main(loaded: Loaded, params: Params, shots: int) -> str:
    head = ("model", *FOLD_NAMES, "mean mIoU", "FB-IoU", 'mIoU, protocol "paper"')
    rows = []
    for row in tables.summary(tables.main_rows(loaded, shots, params), params, shots):
        name = f"{row.model.label} ({row.model.detail})"
        scores = [*map(_score, row.folds), _mean(row), _score(row.fb), _score(row.paper_mean)]
        rows.append((name, *scores))
    return _table(head, rows)


def _section(rows: list[Row], printed: list[PrintedRow]) -> str:
    """Our rows, then the printed ones, which are of other images and another protocol."""
    head = ("method", *FOLD_NAMES, "mean mIoU", "FB-IoU", "over lerenet", *OVER, "clean", "epochs", "kept")
    lines = []
    for row in rows:
        name = f"{row.method} ({row.note})" if row.note else row.method
        scores = [*map(_score, row.main.folds), _mean(row.main), _score(row.main.fb)]
        clean = row.clean.text if row.clean else "-"
        gains = [_gain(row.over_reference), *(_gain(gain) for gain in row.over_matching)]
        epochs = (row.schedule.epochs_text, row.schedule.kept_text) if row.schedule else ("", "")
        lines.append((name, *scores, *gains, clean, *epochs))
    for line in printed:
        name = f"*as printed, other images and protocol:* {line.method} ({line.backbone})"
        lines.append((name, *line.folds, line.miou, line.fb_iou, *[""] * (len(head) - 6)))
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
    folds = f" ({len(FOLD_NAMES) - row.missing} folds)" if row.missing else ""
    return f"{_score(row.mean)}{spread}{folds}"


def _clean(loaded: Loaded) -> str:
    rows = [
        (
            f"{row.model.label} ({row.model.detail})",
            str(row.shots),
            str(row.episodes),
            f"{100 * row.false_share:.2f} %",
            f"{100 * row.images_clean_share:.1f} %",
        )
        for row in tables.clean_rows(loaded)
    ]
    head = ("model", "shots", "episodes", "pixels falsely marked", "images left clean")
    return _table(head, rows) if rows else "No clean queries were evaluated."


def _times(loaded: Loaded) -> str:
    rows = [(stage, str(n), f"{seconds:.1f} s") for stage, n, seconds in tables.stage_seconds(loaded)]
    return _table(("stage", "cells", "wall time, summed"), rows)
