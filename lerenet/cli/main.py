"""The command line: pipeline stages (as dvc.yaml calls them) and what people use by hand.

Nothing heavy is imported before a command runs, so ``lerenet --help`` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lerenet.cli import page, registry
from lerenet.cli.backup import backup_command, restore_command
from lerenet.cli.data import app as data_app
from lerenet.cli.enrolment import enrol_command, inspect_command
from lerenet.cli.export import export_command
from lerenet.cli.list_options import ListCommand
from lerenet.cli.predict import predict_command
from lerenet.cli.prune import prune_command
from lerenet.cli.retrain import retrain_command
from lerenet.cli.terminal import Json, any_letters
from lerenet.errors import LerenetError
from lerenet.pipeline import STAGES, Stage
from lerenet.stages.unchanged_inputs import unchanged_inputs

app = typer.Typer(name="lerenet", help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
PANEL, REGISTRY = "Stages (run by dvc repro)", "Registry"
Key = Annotated[str, typer.Argument(help="The stage's key, as dvc.yaml's matrix spells it.")]

app.add_typer(
    data_app, name="data", help="Make the sample data, import images of your own, compare versions."
)
app.command("predict", cls=ListCommand)(predict_command)
app.command("enrol", cls=ListCommand)(enrol_command)
app.command("inspect", cls=ListCommand)(inspect_command)
app.command("export")(export_command)
app.command("ui")(page.ui)
app.command("label-studio")(page.label_studio)
app.command("retrain", rich_help_panel=REGISTRY)(retrain_command)
app.command("backup", rich_help_panel=REGISTRY)(backup_command)
app.command("restore", rich_help_panel=REGISTRY)(restore_command)
app.command("prune", rich_help_panel=REGISTRY)(prune_command)
for command in registry.COMMANDS:
    app.command(command.__name__.replace("_", "-"), rich_help_panel=REGISTRY)(command)


def _add(stage: Stage) -> None:
    """The command that runs ``stage``."""

    def once() -> None:
        stage()

    def keyed(key: Key) -> None:
        stage(key)

    command = keyed if stage.key else once
    command.__doc__ = stage.about
    app.command(stage.command, rich_help_panel=PANEL)(command)


for entry in STAGES:
    _add(entry)


@app.command()
def results(
    out: Annotated[Path, typer.Option(help="The Markdown file to write.")] = Path("docs/results.md"),
    artifacts: Annotated[
        Path, typer.Option(help="Of what: the last run, or a table's (tables/NAME/artifacts).")
    ] = Path("artifacts"),
    kept: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file of cells that `python -m flows.tables --kept` wrote; repeat it for several."
        ),
    ] = None,
) -> None:
    """Write the scores of the last run as Markdown, with data hash, seed, intervals and machine."""
    from lerenet.stages import report as stage

    stage.write_results(out, artifacts, kept or ())


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the set-up and say what to mend."""
    from lerenet.cli.doctor import doctor_command

    doctor_command(as_json)


@app.command()
def cost(
    recipe: Annotated[str, typer.Option(help="A recipe of params.yaml.")] = "lerenet",
    backbone: Annotated[str, typer.Option(help="Backbone name.")] = "efficientnet_lite0",
    shots: Annotated[int, typer.Option(min=1, max=5)] = 1,
    levels: Annotated[
        str, typer.Option(help="Levels that the head reads, e.g. 1,2,3; else the recipe's.")
    ] = "",
    stride: Annotated[
        int | None, typer.Option(help="8: the backbone's deeper levels dilated to it; else the recipe's.")
    ] = None,
    table5: Annotated[
        bool, typer.Option("--table5", help="The paper's Table 5, counted its way and torch's.")
    ] = False,
    breakdown: Annotated[bool, typer.Option("--breakdown", help="Where the FLOPs go.")] = False,
    latency: Annotated[bool, typer.Option("--latency", help="Time and memory on this machine.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of --latency.")] = 20,
) -> None:
    """Parameters and FLOPs of a recipe and backbone, for an episode and for an enrolled class."""
    from lerenet import layout
    from lerenet.cli import cost as show
    from lerenet.models.config import recipe_network
    from lerenet.params import load_params

    params = load_params(layout.PARAMS)
    if table5:
        return show.print_table5(
            {name: recipe_network(params, name) for name in show.RECIPES if name in params.recipes}
        )
    model = show.chosen_network(params, recipe, levels, stride)
    show.print_cost(model, backbone, shots, params.image_size)
    if breakdown:
        show.print_breakdown(model, backbone, shots, params.image_size)
    if latency:
        show.print_latency(model, backbone, shots, params.image_size, repeats)


def main() -> None:
    """Entry point: user errors end with their message and status 2, without a traceback."""
    any_letters()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    for noisy in ("alembic", "mlflow", "great_expectations", "httpx", "timm", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        with unchanged_inputs():
            app()
    except LerenetError as error:
        from rich.console import Console
        from rich.markup import escape

        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
