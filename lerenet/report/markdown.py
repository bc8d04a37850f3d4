"""The results of a run as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from lerenet.params import Params
from lerenet.report import tables
from lerenet.report.facts import facts
from lerenet.report.findings import findings
from lerenet.report.load import FOLD_NAMES, Loaded


def results(loaded: Loaded, params: Params) -> str:
    """Facts, findings, main tables, clean queries and wall time, ready for ``docs/results.md``."""
    level = f"{100 * params.gate.confidence:.0f} %"
    parts = [
        "# Results",
        "Written by `lerenet results` from the last `dvc repro`. Don't edit: run it again.",
        _table(("Run", ""), [(name, f"`{value}`") for name, value in facts(loaded, params).items()]),
        *(f"- {finding.sentence}" for finding in findings(loaded, params)),
        f"Scores are points of IoU (0 to 100) with {level} intervals from resampling the episodes "
        f"({params.gate.draws:,} draws, seed {params.seed}). [protocol.md](protocol.md) defines them.",
    ]
    for shots in loaded.shots:
        parts += [f"## {shots}-shot", _main(loaded, params, shots)]
    parts += ["## Clean queries", _clean(loaded), "## Wall time", _times(loaded)]
    return "\n\n".join(part for part in parts if part) + "\n"


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
    for row in tables.main_rows(loaded, shots, params):
        mean = _score(row.mean) + (f" ({len(FOLD_NAMES) - row.missing} folds)" if row.missing else "")
        name = f"{row.model.label} ({row.model.detail})"
        scores = [*map(_score, row.folds), mean, _score(row.fb), _score(row.paper_mean)]
        rows.append((name, *scores))
    return _table(head, rows)


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
