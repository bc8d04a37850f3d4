"""The paper's tables, one command each: ``python -m flows.tables table3`` sets the grid and runs it.

The grid is written into ``params.yaml`` (its comments stay), then a plain ``dvc repro`` runs what is
stale of its cells and writes the report. Outputs of earlier tables stay in ``artifacts/``, so the
report collects them all. Nothing else is changed: killed and started again, a table goes on.
"""

from __future__ import annotations

import io
import logging
import signal
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from pydantic import ValidationError

from lerenet import layout
from lerenet.cells import Cell
from lerenet.cli.list_options import ListCommand
from lerenet.cli.terminal import run_app
from lerenet.errors import ParamsError
from lerenet.evaluation.metrics import METRICS, NAMES
from lerenet.files import atomic_path, read_json, write_text
from lerenet.params import Params, TableSettings, load_params

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


# -- params.yaml ----------------------------------------------------------------------------------


def set_grid(path: Path, table: TableSettings, epochs: int | None = None, init: str | None = None) -> str:
    """Write the grid of ``table`` into ``params.yaml``; comments and everything else stay as they are.

    Args:
        path: the file; it is replaced whole or not at all.
        table: its lists become ``grid``; split ``all`` is left out, no table needs it.
        epochs: also ``train.epochs``, and that of the table's recipes that set their own.
        init: also ``init``.

    Returns:
        What was set, in one line.

    Raises:
        ParamsError: the file can't be read, or would not be valid; it is unchanged then.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedSeq

    def inline(values: Sequence[object]) -> CommentedSeq:
        sequence = CommentedSeq(values)
        sequence.fa.set_flow_style()
        return sequence

    load_params(path)
    editor = YAML()
    editor.width, editor.preserve_quotes = 4096, True
    document = editor.load(path.read_text(encoding="utf-8"))
    grid = {**table.model_dump(), "splits": table.folds}
    section = document.setdefault("grid", {})
    for key, values in grid.items():
        section[key] = inline(values)
    said = [f"grid ({len(cells(table))} cells)", *_set_epochs(document, table, epochs)]
    if init is not None:
        document["init"] = init
        said.append(f"init {init}")
    with io.StringIO() as out:
        editor.dump(document, out)
        text = out.getvalue()
    _check(text)
    if text != path.read_text(encoding="utf-8"):
        write_text(path, text)
    return f"{path}: set {', '.join(said)}; `git checkout {path}` goes back"


def _set_epochs(document: Any, table: TableSettings, epochs: int | None) -> list[str]:
    if epochs is None:
        return []
    document.setdefault("train", {})["epochs"] = epochs
    said = [f"train.epochs {epochs}"]
    for recipe in table.recipes:
        own = (document["recipes"].get(recipe) or {}).get("train") or {}
        if "epochs" in own:
            own["epochs"] = epochs
            said.append(f"recipes.{recipe}.train.epochs {epochs}")
    return said


def _check(text: str) -> None:
    try:
        Params.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ParamsError(f"{key}: {first['msg']} (got {first['input']!r})", "give another value") from error


# -- run, track, tell -----------------------------------------------------------------------------


def run_table(name: str, table: TableSettings, params: Params) -> None:
    """Run every cell of the table and the report, as children of one MLflow run named ``name``.

    Raises:
        StageError: a stage failed; the next call goes on from there.
    """
    from flows.dvc import refuse_inside_dvc, repro
    from lerenet import tracking

    refuse_inside_dvc()
    folder = layout.CHECKPOINTS / name
    settings = {"table": name, **table.model_dump(), "train": params.train.model_dump(), "init": params.init}
    with tracking.stage_run(name, "", folder, params, settings=settings, tags={"table": name}) as run:
        with run.children():
            repro("evaluate", "floors")
            repro("report", single=True)
        rows = scores(table)
        with atomic_path(folder / "scores.csv") as temporary:
            rows.to_csv(temporary, index=False)
        run.log_artifact(folder / "scores.csv")
        run.log_metrics(means(rows))


def scores(table: TableSettings) -> pd.DataFrame:
    """One row a cell that was evaluated: its MLflow runs and its scores with the shots of its training."""
    import pandas as pd

    records = []
    for cell in cells(table):
        for row in read_json(layout.EVALUATE / cell.key / "summary.json"):
            if row["protocol"] == "groups" and row["shots"] == cell.shots:
                runs = {
                    f"{stage}_run_id": read_json(folder / cell.key / "run.json")["mlflow_run_id"]
                    for stage, folder in (("train", layout.TRAIN), ("evaluate", layout.EVALUATE))
                }
                points = {name: row[name] for name in NAMES}
                records.append({"cell": cell.key, **vars(cell), **points, **runs})
    return pd.DataFrame(records)


def means(rows: pd.DataFrame) -> dict[str, float]:
    """``<recipe>.<K>shot.<metric>``: mean over folds of the mean over seeds.

    With several backbones the first part is ``<recipe>-<backbone>``.
    """
    several = rows["backbone"].nunique() > 1
    flat = {}
    for (recipe, backbone, shots), part in rows.groupby(["recipe", "backbone", "shots"]):
        name = f"{recipe}-{backbone}" if several else recipe
        for metric in METRICS:
            mean = part.groupby("split")[metric.name].mean().mean()
            flat[f"{name}.{shots}shot.{metric.name}"] = float(mean)
    return flat


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
    epochs: Annotated[int | None, typer.Option(min=1, help="Sets train.epochs, for a shorter run.")] = None,
    init: Annotated[
        str | None, typer.Option(help="Sets init: imagenet, random or a weights file of the backbone.")
    ] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Print the cells and change nothing.")] = False,
) -> None:
    """Set the grid to a table of the paper, run what is missing of it and write the report."""
    params = load_params(layout.PARAMS)
    lists = {"backbones": backbones, "folds": folds, "recipes": recipes, "shots": shots, "seeds": seeds}
    chosen = choose(params, table, **{key: values or [] for key, values in lists.items()})
    if dry:
        for cell in cells(chosen):
            print(cell.key)
        return
    print(set_grid(layout.PARAMS, chosen, epochs, init), flush=True)
    run_table(table, chosen, load_params(layout.PARAMS))
    print(f"{table}: done; see {layout.REPORT / 'report.html'}")


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
