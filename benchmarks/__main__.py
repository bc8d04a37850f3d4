"""Run the benchmarks in a project's folder: data, params.yaml; results as a table and as JSON."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lerenet.cli.terminal import run_app


class What(StrEnum):
    """What to measure; `all` leaves out `schedule`, as long as a training, `untrained`, no timing, and `batch`."""

    ALL = "all"
    TRAINING = "training"
    EVALUATION = "evaluation"
    QUERY = "query"
    SCHEDULE = "schedule"
    UNTRAINED = "untrained"
    BATCH = "batch"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    what: Annotated[What, typer.Argument(help="all is training, evaluation and query.")] = What.ALL,
    fold: Annotated[str, typer.Option(help="The split whose base classes are trained on.")] = "fold0",
    recipe: Annotated[str, typer.Option(help="A recipe of params.yaml.")] = "lerenet",
    backbone: Annotated[str, typer.Option(help="Of training, evaluation, schedule.")] = "efficientnet_lite0",
    init: Annotated[
        str, typer.Option(help="Its weights: imagenet, random, a file; else params.yaml's.")
    ] = "",
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
    repetitions: Annotated[int, typer.Option(min=1, help="Paired rounds of training and evaluation.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="A few steps of each: to see that it runs.")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Schedule: length that the rate decays over.")] = 200,
    steps: Annotated[
        int, typer.Option(min=0, help="Schedule: stop after so many, rounded up to epochs.")
    ] = 0,
    beside: Annotated[
        Path | None, typer.Option(help="Batch: another checkout of this project to compare with.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the JSON file.")] = Path("artifacts/benchmarks"),
) -> None:
    """Compare our training, evaluation and queries with the plain ways, on the data of this folder."""
    import torch

    from benchmarks import batch, evaluation, query, schedule, training, untrained
    from benchmarks.project import Project
    from benchmarks.results import Report

    torch.set_num_threads(threads)
    project = Project.load(fold, recipe, backbone, init)
    report = Report(project, quick)
    rounds = 1 if quick else repetitions
    if what in (What.ALL, What.TRAINING):
        report.add(training.measure(project, rounds, steps=2 if quick else 12))
    if what in (What.ALL, What.EVALUATION):
        report.add(evaluation.measure(project, rounds, count=4 if quick else 60))
    if what in (What.ALL, What.QUERY):
        report.add(query.measure(project, repeats=2 if quick else 30))
    if what == What.SCHEDULE:
        report.add(schedule.measure(project, epochs, steps))
    if what == What.UNTRAINED:
        folds = ("fold0",) if quick else ("fold0", "fold1", "fold2")
        report.add(untrained.measure([Project.load(name, recipe, backbone, init) for name in folds]))
    if what == What.BATCH:
        report.add(batch.measure(rounds, beside, threads, quick))
    report.write(out / f"{what}.json")


if __name__ == "__main__":
    run_app(app)
