"""What the report says: read and computed once, then rendered as a page, as Markdown and for DVC."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from lerenet.params import KNOWN, Params
from lerenet.report import tables
from lerenet.report.as_printed import BestRow, best_rows
from lerenet.report.choose import compared_models, shown_model
from lerenet.report.comparison import Section, sections
from lerenet.report.costs import CostRow, cost_rows
from lerenet.report.facts import facts
from lerenet.report.findings import Finding, findings, headline
from lerenet.report.intervals import Intervals, resampled
from lerenet.report.live import LiveRow, live_rows
from lerenet.report.load import Loaded, Model, load
from lerenet.report.schedule import Schedule, kept_sentences, schedule, short_runs


@dataclass(frozen=True)
class Data:
    """All numbers and sentences of one report.

    Attributes:
        rows: shots -> a row of every model that was evaluated.
        main: of these, the rows of the main table.
        sections: the paper's tables, as far as their cells are there.
        headline: of the findings, those about what ships.
        kept: sentences on weights that no training changed.
        short: models trained shorter than the paper's schedule, and how.
        class_folds: class -> the fold in which it is novel.
        class_scores: shots -> model id -> class -> IoU.
        live: the live model's classes.
        seconds: stage, cells, wall time.
        shown: the model that figures show.
        compared: it, and matching.
        best_epochs: of watched trainings, what the paper's protocol as it is gives.
        known: the same about known classes, where anything was asked about them.
    """

    loaded: Loaded
    params: Params
    facts: dict[str, str]
    intervals: Intervals
    rows: dict[int, list[tables.MainRow]]
    main: dict[int, list[tables.MainRow]]
    sections: list[Section]
    costs: list[CostRow]
    clean: list[tables.CleanRow]
    findings: list[Finding]
    headline: list[Finding]
    kept: list[str]
    short: list[tuple[Model, str]]
    schedules: dict[str, Schedule]
    class_folds: dict[str, str]
    class_scores: dict[int, dict[str, dict[str, float]]]
    live: list[LiveRow]
    seconds: list[tuple[str, int, float]]
    shown: Model | None
    compared: list[Model]
    best_epochs: list[BestRow]
    known: Data | None


def collect(artifacts: Path, params: Params) -> Data:
    """Read the stage folders below ``artifacts`` and compute the rest, of both questions.

    Raises:
        LerenetError: a file that is there but can't be read; the message names it.
    """
    novel, known = load(artifacts, params), load(artifacts, params, KNOWN)
    novel = replace(novel, skipped=[*novel.skipped, *known.skipped])
    return _computed(novel, params, _computed(known, params) if known.models else None)


def _computed(loaded: Loaded, params: Params, known: Data | None = None) -> Data:
    compared = compared_models(loaded, params)
    intervals = resampled(loaded, params, compared)
    rows = {shots: tables.main_rows(loaded, shots, intervals) for shots in loaded.shots}
    clean, beside_floors = tables.clean_rows(loaded), findings(loaded, intervals)
    papers = sections(loaded, params, rows, clean, intervals)
    return Data(
        loaded=loaded,
        params=params,
        facts=facts(loaded, params),
        intervals=intervals,
        rows=rows,
        main={shots: tables.summary(each, params, shots) for shots, each in rows.items()},
        sections=papers,
        costs=cost_rows(papers, loaded, params),
        clean=clean,
        findings=beside_floors,
        headline=headline(beside_floors, loaded, params),
        kept=kept_sentences(loaded, params),
        short=short_runs(loaded),
        schedules={model.id: schedule(loaded, model) for model in loaded.models if not model.floor},
        class_folds=tables.class_folds(loaded),
        class_scores={shots: tables.class_scores(loaded, shots) for shots in loaded.shots},
        live=live_rows(loaded.live),
        seconds=tables.stage_seconds(loaded),
        shown=shown_model(loaded, params),
        compared=compared,
        best_epochs=best_rows(loaded),
        known=known,
    )
