"""A year of daily new data, simulated: what grows, and how long the commands take: ``python -m benchmarks.growth``.

In a project after ``dvc repro``, in a copy of its outputs with a store of its own. A day is a retraining's traces and
not its training: one MLflow run for each stage with the artifacts that the stage logs, a new version with other weights
and one class learnt anew, a verdict in the ledger, new features of one class, a new state of the data in DVC's cache.
Once a week it is pruned as ``lerenet prune`` does, a day of the simulation being a day.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.results import machine
from lerenet import layout
from lerenet.cells import ship_cells
from lerenet.files import read_json, sha256_file, write_json
from lerenet.params import Params, load_params
from lerenet.progress import progress
from lerenet.registry import caches

COPIED = ("params.yaml", "dvc.yaml", "dvc.lock", "data.dvc", "artifacts")
MEASURED = (1, 30, 365)
WEEK, KEEP, DAYS = 7, 5, 30
FEATURES = 14 * 2**20  # bytes of one class's, of 30 images at 200 x 200
EPOCHS = 20
LOGGED = {
    "train": ("model", "curve.csv"), "ship": ("model", "curve.csv"), "report": ("report.html", "metrics.json"),
    "inspect": ("summary.json", "counts.parquet"), "evaluate": ("summary.json",), "folds": ("folds.json",),
    "pretrain": ("curve.csv",), "enrol": ("metrics.json",),
}  # fmt: skip
ASKED = {
    "models": ("models",), "ledger": ("ledger",), "lineage": ("lineage", "champion"), "doctor": ("doctor",),
}  # fmt: skip


def change(weights: Path, day: int) -> None:
    """Make a file of weights another one: its last four bytes, which are a weight's."""
    with weights.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(day.to_bytes(4, "little"))


def new_weights(params: Params, day: int) -> None:
    """Other weights in each model to ship and in each fold's."""
    for cell in ship_cells(params).values():
        folder = layout.TRAIN / cell.key / "model"
        change(folder / layout.WEIGHTS, day)
        config = read_json(folder / "config.json")
        write_json(folder / "config.json", {**config, "weights_sha256": sha256_file(folder / layout.WEIGHTS)})


def new_class(day: int) -> None:
    """One class with another memory, and other heads that all classes share."""
    from lerenet.enrolment.enrolled import CLASSES, FACTS, MEMORY, SHARED

    folders = sorted(path.parent for path in (layout.ENROL / CLASSES).glob(f"*/{FACTS}"))
    chosen, shared = folders[day % len(folders)], layout.ENROL / SHARED
    for path in (chosen / MEMORY, shared):
        change(path, day)
    for folder in folders:
        facts = read_json(folder / FACTS)
        facts["shared"] = sha256_file(shared)
        facts["sha256"][MEMORY] = sha256_file(folder / MEMORY)
        write_json(folder / FACTS, facts)


def new_data(day: int, before: str) -> str:
    """Another hash of the data, its list of files and one file of 200 KB in DVC's cache, and features of one class."""
    md5 = f"{day:032x}.dir"
    for name in ("data.dvc", "dvc.lock"):
        path = Path(name)
        path.write_text(path.read_text(encoding="utf-8").replace(before, md5), encoding="utf-8")
    objects = Path(".dvc/cache/files/md5")
    for name, size in ((md5, 60_000), (f"{day:032x}", 200_000)):
        place = objects / name[30:32] / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(os.urandom(size))
    unit = layout.CACHE / "features" / f"{day:024x}"
    unit.mkdir(parents=True)
    (unit / "level2.npy").write_bytes(os.urandom(FEATURES))
    return md5


def run_stages(params: Params) -> None:
    """One run for each stage that the project's outputs name, with what it logs."""
    from lerenet.tracking import stage_run

    for path in sorted(layout.ARTIFACTS.rglob("run.json")):
        said = read_json(path)
        stage, out = said["stage"], path.parent
        with stage_run(stage, said["key"], out, params, settings=params.train.model_dump()) as run:
            for epoch in range(EPOCHS if stage in ("train", "ship", "pretrain") else 1):
                run.log_metrics({"loss": 1 / (1 + epoch), "miou": float(epoch)}, epoch)
            for name in LOGGED.get(stage, ()):
                if (out / name).exists():
                    run.log_artifact(out / name)


def decide(number: str, params: Params, whole: bool) -> None:
    """The gate's whole verdict, or a rejection with its traces; the first version is judged in any case."""
    from lerenet.registry import gate, promote
    from lerenet.registry import versions as registry

    champion = registry.champion()
    if whole or champion is None:
        promote.promote(number, params, operator="growth")
        return
    verdict = gate.Verdict("rejected", ("simulated: nothing was trained",))
    promote.record(registry.by_number(number), champion, verdict, operator="growth", reason="simulated")


def prune(began: float, day: int) -> float:
    """What ``lerenet prune`` does of MLflow and of the caches; seconds."""
    from lerenet.registry import prune as registry

    started = time.monotonic()
    days = DAYS * (time.time() - began) / day / caches.DAY  # as many of the simulation
    registry.remove(registry.plan(load_params(layout.PARAMS).experiment, KEEP, days))
    caches.drop(caches.unused(days))
    return time.monotonic() - started


def megabytes(place: str) -> float:
    """On disk; what is linked counts once."""
    done = subprocess.run(["du", "-sk", place], capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0]) / 1024 if done.stdout else 0.0


def seconds(*words: str) -> float:
    """Of one command, its start included."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "lerenet", *words], capture_output=True, check=False)
    return time.monotonic() - started


def main(
    days: Annotated[int, typer.Option(min=1, help="Days to simulate.")] = 365,
    pruned: Annotated[bool, typer.Option(help="Prune once a week.")] = True,
    out: Annotated[Path, typer.Option(help="JSON with every value.")] = Path(
        "artifacts/benchmarks/growth.json"
    ),
) -> None:
    """Live through a year of daily retrainings; print sizes and times."""
    from lerenet.registry import registering
    from lerenet.registry.candidate import collect

    project, out = Path.cwd(), out.resolve()
    folder = Path(tempfile.mkdtemp(prefix="lerenet-growth-"))
    for name in COPIED:
        (shutil.copytree if Path(name).is_dir() else shutil.copyfile)(name, folder / name)
    os.chdir(folder)
    (folder / "lerenet").symlink_to(Path(__file__).parents[1] / "lerenet")
    params, md5, began, rows = load_params(layout.PARAMS), layout.data_md5(), time.time(), []
    try:
        with progress("days", days) as tick:
            for day in range(1, days + 1):
                started = time.monotonic()
                md5 = new_data(day, md5)
                new_weights(params, day)
                new_class(day)
                run_stages(params)
                logged = time.monotonic()
                number = registering.register(collect(params), params)
                registered = time.monotonic()
                decide(number, params, day in MEASURED)
                row: dict[str, Any] = {
                    "day": day, "stages": logged - started, "register": registered - logged,
                    "decide": time.monotonic() - registered,
                }  # fmt: skip
                if pruned and day % WEEK == 0:
                    row["prune"] = prune(began, day)
                if day in MEASURED:
                    row |= {what: seconds(*words) for what, words in ASKED.items()}
                    places = ("mlflow.db", "mlartifacts", ".cache", ".dvc/cache", "ledger.jsonl")
                    row |= {f"{place} MB": megabytes(place) for place in places}
                rows.append(row)
                tick(1)
    finally:
        os.chdir(project)
        shutil.rmtree(folder, ignore_errors=True)
        write_json(out, {"machine": machine(), "days": days, "pruned": pruned, "rows": rows})
    names = [name for name in rows[0] if name != "day"]
    shown = [row for row in rows if row["day"] in MEASURED]
    typer.echo(f"| | {' | '.join('day ' + str(row['day']) for row in shown)} |")
    typer.echo("|---|" + "---|" * len(shown))
    for name in names:
        typer.echo(f"| {name} | {' | '.join(f'{row[name]:.1f}' for row in shown)} |")


if __name__ == "__main__":
    typer.run(main)
