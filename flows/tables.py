"""The paper's tables, one command each: ``python -m flows.tables table3`` runs it as an experiment of DVC.

The experiment runs in a copy of the project whose ``grid`` is the table's; ``params.yaml``, ``dvc.lock`` and
``artifacts/`` of the project stay as they are. Features and checkpoints are shared, what ran before is taken from DVC's
run cache: killed and started again, a table goes on. Its cells and its report come into ``tables/<name>/``.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from lerenet import layout
from lerenet.cells import Cell
from lerenet.cli.list_options import ListCommand
from lerenet.cli.terminal import run_app
from lerenet.errors import ParamsError
from lerenet.evaluation.metrics import METRICS, NAMES
from lerenet.files import atomic_path, read_json
from lerenet.params import KNOWN, NOVEL, QUESTIONS, Params, TableSettings, explain, load_params
from lerenet.report.kept import cells as kept_cells
from lerenet.report.kept import keep, read, todays_episodes

if TYPE_CHECKING:
    import pandas as pd


# -- which cells ----------------------------------------------------------------------------------


def choose(params: Params, name: str, **narrowed: Sequence[object]) -> TableSettings:
    """The table ``name`` of ``params.yaml`` with the lists given on the command line over it.

    Raises:
        ParamsError: no such table, a value that the table can't take, or shots without episodes.
    """
    if name not in params.tables:
        names = ", ".join(params.tables) or "none"
        raise ParamsError(f"no table {name!r} under `tables` in {layout.PARAMS}", f"known: {names}")
    given = {key: tuple(values) for key, values in narrowed.items() if values}
    try:
        table = TableSettings.model_validate({**params.tables[name].model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        said = f"--{first['loc'][0]}: {first['msg']} (got {first['input']!r})"
        raise ParamsError(f"{name}: {said}", "`python -m flows.tables --help` lists the options") from error
    for recipe in table.recipes:
        if recipe not in params.recipes:
            names = ", ".join(params.recipes)
            raise ParamsError(f"{name}: recipe {recipe!r} is not in {layout.PARAMS}", f"known: {names}")
    if missing := sorted(set(table.shots) - set(params.episodes.shots)):
        raise ParamsError(
            f"{name}: no episodes with {missing[0]} support images",
            f"add {missing[0]} to `episodes.shots` in {layout.PARAMS}, or give other --shots",
        )
    return table


def cells(table: TableSettings) -> list[Cell]:
    """The cells of a table, in the order in which they are run."""
    lists = (table.folds, table.backbones, table.recipes, table.shots, table.seeds)
    return [Cell(*values) for values in product(*lists)]


def parts(table: TableSettings, done: Collection[str]) -> list[TableSettings]:
    """The table without the cells that are ``done``: one for each recipe, backbone, shots and seed, with its folds."""
    left: dict[tuple[str, str, int, int], list[str]] = {}
    for cell in cells(table):
        if cell.key not in done:
            left.setdefault((cell.recipe, cell.backbone, cell.shots, cell.seed), []).append(cell.split)
    return [
        TableSettings.model_validate(
            {"recipes": [recipe], "backbones": [backbone], "shots": [shots], "seeds": [seed], "folds": folds}
        )
        for (recipe, backbone, shots, seed), folds in left.items()
    ]


def status(name: str, table: TableSettings, done: Collection[str]) -> str:
    """What of a table is done and what is missing, one line for each recipe, backbone, shots and seed."""
    missing = {
        (part.recipes, part.backbones, part.shots, part.seeds): part.folds for part in parts(table, done)
    }
    lines = []
    for part in parts(table, ()):
        left = missing.get((part.recipes, part.backbones, part.shots, part.seeds), ())
        label = f"{part.recipes[0]} {part.backbones[0]} {part.shots[0]}-shot seed {part.seeds[0]}"
        lines.append(f"{label}: {'missing ' + ', '.join(left) if left else 'done'}")
    total, lacking = len(cells(table)), sum(len(folds) for folds in missing.values())
    return "\n".join([*lines, f"{name}: {total - lacking} of {total} cells done"])


def finished(name: str, params: Params, table: TableSettings, kept: Path | None) -> set[str]:
    """Keys of the cells that need not run, in the file or in ``tables/NAME``: of today's episodes and settings.

    Raises:
        DataError: no folds yet, or a file that can't be read.
    """
    there = (layout.TABLES / name / layout.EVALUATE).glob("*/about.json")
    found = current(params, table, {path.parent.name: read_json(path) for path in there})
    return found | (current(params, table, kept_cells(read(kept))) if kept else set())


def current(params: Params, table: TableSettings, said: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Those of the table's cells that are of today's episodes and settings, by what they say of themselves.

    Raises:
        DataError: no folds yet.
    """
    from lerenet.stages.recipes import settings_digest

    episodes = todays_episodes(layout.ARTIFACTS)
    return {
        cell.key
        for cell in cells(table)
        if (about := said.get(cell.key))
        and (about["episodes"], about.get("settings")) == (episodes, settings_digest(params, cell))
    }


def settings_of(
    params: Params, table: TableSettings, epochs: int | None = None, init: str | None = None
) -> dict[str, object]:
    """What the table changes in the settings: key with dots -> value.

    Args:
        table: its lists become ``grid``; split ``all`` is left out, no table needs it.
        epochs: also ``train.epochs``, and that of the table's recipes that set their own.
        init: also ``init``; a file is named from the root, for the experiment runs elsewhere.
    """
    grid = {**table.model_dump(), "splits": table.folds}
    changes: dict[str, object] = {f"grid.{key}": values for key, values in grid.items()}
    if epochs is not None:
        own = [name for name in table.recipes if "epochs" in params.recipes[name].train]
        changes |= dict.fromkeys(("train.epochs", *(f"recipes.{name}.train.epochs" for name in own)), epochs)
    start = params.init if init is None else init
    if Path(start).is_file():
        start = str(Path(start).absolute())
    return changes if start == params.init else {**changes, "init": start}


def check(params: Params, changes: Mapping[str, object]) -> None:
    """Refuse, before anything runs, settings that the experiment would stumble over.

    Raises:
        ParamsError: a value that is not allowed, or a network that does not know its keys.
    """
    from lerenet.stages.common import check_settings

    raw = params.model_dump(mode="json")
    for key, value in changes.items():
        *path, last = key.split(".")
        section = raw
        for part in path:
            section = section[part]
        section[last] = value
    try:
        check_settings(Params.model_validate(raw))
    except ValidationError as error:
        raise ParamsError(explain(error, Params), "give another value") from error


# -- run, track, tell -----------------------------------------------------------------------------


def run_table(name: str, table: TableSettings, params: Params, settings: Mapping[str, object]) -> None:
    """Run every cell of the table and its report, as children of one MLflow run named ``name``.

    Raises:
        StageError: a stage failed; the next call goes on from there.
    """
    from flows.dvc import experiment, fetch, refuse_inside_dvc
    from lerenet import tracking
    from lerenet.tracking import store

    refuse_inside_dvc()
    folder = layout.CHECKPOINTS / name
    shared = {
        "LERENET_CACHE": str(layout.CACHE.absolute()),
        "LERENET_CHECKPOINTS": str(folder.absolute()),
        store.VARIABLE: store.tracking_uri(),
    }
    recorded = {
        "table": name,
        **table.model_dump(),
        "train": params.train.model_dump(),
        "init": params.init,
        **settings,
    }
    with tracking.stage_run(
        name, "", folder, params, settings={**recorded, **settings}, tags={"table": name}
    ) as run:
        with run.children():
            made = experiment(name, settings, "evaluate", "floors", "report", variables=shared)
        fetch(made, "params.yaml", "data.dvc", "artifacts", into=layout.TABLES / name)
        rows = scores(table, layout.TABLES / name)
        with atomic_path(folder / "scores.csv") as temporary:
            rows.to_csv(temporary, index=False)
        run.log_artifact(folder / "scores.csv")
        run.log_metrics(means(rows) | known(layout.TABLES / name))


def scores(table: TableSettings, root: Path) -> pd.DataFrame:
    """One row a cell that was evaluated: its MLflow runs and its scores with the shots of its training."""
    import pandas as pd

    records = []
    for cell in cells(table):
        for row in read_json(root / layout.EVALUATE / cell.key / "summary.json"):
            if row["protocol"] == "groups" and row["shots"] == cell.shots:
                runs = {
                    f"{stage}_run_id": read_json(root / folder / cell.key / "run.json")["mlflow_run_id"]
                    for stage, folder in (("train", layout.TRAIN), ("evaluate", layout.EVALUATE))
                }
                points = {name: row[name] for name in NAMES}
                records.append({"cell": cell.key, **vars(cell), **points, **runs})
    return pd.DataFrame(records)


def means(rows: pd.DataFrame) -> dict[str, float]:
    """``<recipe>.<K>shot.<metric>`` of novel classes: mean over folds of the mean over seeds.

    With several backbones the recipe's part is ``<recipe>-<backbone>``.
    """
    several = rows["backbone"].nunique() > 1
    rows = rows[rows["split"].isin(QUESTIONS[NOVEL])]
    flat = {}
    for (recipe, backbone, shots), part in rows.groupby(["recipe", "backbone", "shots"]):
        name = f"{recipe}-{backbone}" if several else recipe
        for metric in METRICS:
            mean = part.groupby("split")[metric.name].mean().mean()
            flat[f"{name}.{shots}shot.{metric.name}"] = float(mean)
    return flat


def known(root: Path) -> dict[str, float]:
    """``known.<model>.<K>shot.<metric>``, as the table's report has them: over all known folds at once."""
    path = root / layout.REPORT / "metrics.json"
    ends = tuple(f"shot.{metric.name}" for metric in METRICS)
    found = read_json(path) if path.exists() else {}
    return {
        name: value for name, value in found.items() if name.startswith(f"{KNOWN}.") and name.endswith(ends)
    }


# -- command line ---------------------------------------------------------------------------------


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=ListCommand)
def table_command(
    table: Annotated[str, typer.Argument(help="A name under `tables` in params.yaml, e.g. table3.")],
    backbones: Annotated[list[str] | None, typer.Option(help="Instead of the table's.")] = None,
    folds: Annotated[list[str] | None, typer.Option(help="Instead of the table's.")] = None,
    recipes: Annotated[list[str] | None, typer.Option(help="Instead of the table's.")] = None,
    shots: Annotated[list[int] | None, typer.Option(help="Instead of the table's.")] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="Instead of the table's.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Another train.epochs, for a shorter run.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Another init: imagenet, random or a weights file of the backbone.")
    ] = None,
    kept: Annotated[
        Path | None,
        typer.Option(
            help="A .tar.xz file of cells: what it holds is not run again, what is done goes into it."
        ),
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Print the cells that would run and change nothing.")
    ] = False,
    said: Annotated[bool, typer.Option("--status", help="Say what is done and what is missing.")] = False,
) -> None:
    """Run what is missing of a table of the paper and write its report; the project stays as it is."""
    params = load_params(layout.PARAMS)
    lists = {"backbones": backbones, "folds": folds, "recipes": recipes, "shots": shots, "seeds": seeds}
    chosen = choose(params, table, **{key: values or [] for key, values in lists.items()})
    changes = settings_of(params, chosen, epochs, init)
    check(params, changes)
    if kept and (epochs or init):
        raise ParamsError(
            "--kept: with --epochs or --init cells of other settings would stand in one file",
            "write them into params.yaml, and give another file",
        )
    done = finished(table, params, chosen, kept) if kept or said else set()
    if said:
        print(status(table, chosen, done))
        return
    todo = parts(chosen, done) if kept else [chosen]
    if dry:
        for cell in (cell for part in todo for cell in cells(part)):
            print(cell.key)
        return
    if kept:
        _run_kept(table, chosen, todo, params, kept)
        return
    print(f"{table}: {len(cells(chosen))} cells, as DVC's experiment {table}", flush=True)
    run_table(table, chosen, params, changes)
    print(f"{table}: done; see {layout.TABLES / table / layout.REPORT / 'report.html'}")


def _run_kept(
    name: str, table: TableSettings, todo: Sequence[TableSettings], params: Params, kept: Path
) -> None:
    """Run what is missing part by part; each part goes into the file as it is done."""
    made = layout.TABLES / name / layout.ARTIFACTS
    keep(made, kept, finished(name, params, table, None))  # what an earlier run left there
    for part in todo:
        print(f"{name}: {len(cells(part))} cells, as DVC's experiment {name}", flush=True)
        run_table(name, part, params, settings_of(params, part))
        keep(made, kept)
        print(status(name, table, finished(name, params, table, kept)).splitlines()[-1], flush=True)
    print(f"{name}: done; `lerenet results --kept {kept}` writes the page")


def main() -> None:
    """Entry point: what a user can mend ends with its message and status 2, a failed stage with 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that DVC's processes are ended too
    try:
        run_app(app)
    except RuntimeError as error:  # StageError; DVC inside DVC
        print(f"error: {error}\nThe same command goes on from here.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
