"""``lerenet data sample``, ``lerenet data import`` and ``lerenet data drift``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from lerenet.cli.terminal import console
from lerenet.files import recover_dir, shown
from lerenet.tracking.machine import user

app = typer.Typer(no_args_is_help=True)
Data = Annotated[Path, typer.Option(help="The data folder.")]


@app.command()
def sample(
    data: Data = Path("data"),
    seed: Annotated[
        int, typer.Option(min=0, help="Of everything; 0 gives the bytes that data.dvc names.")
    ] = 0,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Do nothing when the data folder is there.")
    ] = False,
) -> None:
    """Make the sample data set: 12 procedurally made classes, the same bytes every time."""
    recover_dir(data)  # what an import that was killed between its last two steps left
    if if_missing and data.exists():
        typer.echo(f"{shown(data)}: there already, left as it is")
        return
    from lerenet.data.importing.replacing import check_replaceable
    from lerenet.data.sample import make_sample

    check_replaceable(data, "move the folder away, or give another with --data")
    make_sample(data, seed)
    typer.echo(f"{shown(data)}: the sample data set, 12 classes (seed {seed})")


@app.command(name="import")
def import_command(
    path: Annotated[
        Path,
        typer.Argument(help="A folder, a zip or tar archive, or an annotation tool's file beside images."),
    ],
    kind: Annotated[
        str,
        typer.Option(
            help="Layout (canonical, magnetic-tile, mvtec-ad, ...) or annotation format (coco, labelme, cvat, "
            "label-studio, yolo-seg, voc); detected when empty."
        ),
    ] = "",
    spec: Annotated[Path | None, typer.Option(help="YAML file that describes a layout of your own.")] = None,
    folds: Annotated[Path | None, typer.Option(help="YAML file with three lists of class names.")] = None,
    name: Annotated[str, typer.Option(help="Name of the data set.")] = "",
    add: Annotated[bool, typer.Option("--add", help="Keep the classes that are there.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--class", help="Class of an annotation export; others are background. Repeatable."),
    ] = None,
    joined: Annotated[
        str, typer.Option("--as", help="One class that all regions of an annotation export become.")
    ] = "",
    label: Annotated[
        str, typer.Option(help="The defect in masks of several labels: a number, a colour #rrggbb, or any.")
    ] = "",
    ignore: Annotated[
        str, typer.Option(help="A label that is neither defect nor background: a number or a colour.")
    ] = "",
    inverted: Annotated[bool, typer.Option("--inverted", help="The defect is black in the masks.")] = False,
    drawn_on: Annotated[
        str, typer.Option(help="raw or upright: the pixels masks were drawn on where EXIF turns the image.")
    ] = "",
    bits: Annotated[int, typer.Option(help="Bits that a 16-bit camera uses, 8 to 16.")] = 0,
    data: Data = Path("data"),
) -> None:
    """Import images: all of them, or none when a file can't be used."""
    from rich.console import Console

    from lerenet.annotations.importing import import_any
    from lerenet.data.reading import Reading

    reading = Reading(bits, label, ignore, inverted, drawn_on)
    with Console(stderr=True).status(f"importing {shown(path)}"):
        done = import_any(path, data, kind or None, spec, folds, name, add, reading, only or (), joined)
    _show(done.source, data, done.folds, done.defect, done.clean)
    _show_unused(done.source, done.unused)
    if done.dealt:
        typer.echo(f"dealt to folds by rule (give --folds to choose): {', '.join(done.dealt)}")
    typer.echo("next: `dvc add data` (or `dvc commit -f data.dvc`), then `dvc repro`")


@app.command()
def add(
    image: Annotated[Path, typer.Argument(help="The photo.")],
    masks: Annotated[
        list[Path] | None, typer.Argument(metavar="[MASK]…", help="Of its defect; none: a good part.")
    ] = None,
    cls: Annotated[str, typer.Option("--class", help="The class, one of the data's.")] = "",
    group: Annotated[
        str, typer.Option(help="The part that it shows: its photos are kept apart together.")
    ] = "",
    by: Annotated[str, typer.Option(help="Who says so; your user name when empty.")] = "",
    bits: Annotated[int, typer.Option(help="Bits that a 16-bit camera uses, 8 to 16.")] = 0,
    data: Data = Path("data"),
) -> None:
    """Add one photo to a class, or correct its mask; whole or not at all."""
    from lerenet import layout
    from lerenet.data.importing.adding import Given, add_image
    from lerenet.data.reading import Reading
    from lerenet.params import ValidationSettings, load_params

    limits = load_params(layout.PARAMS).validation if layout.PARAMS.exists() else ValidationSettings()
    given = Given(cls, image, masks or (), group, by or user(), Reading(bits))
    typer.echo(f"{shown(data)}: {add_image(data, given, limits)}")
    typer.echo(
        "next: `dvc commit -f data.dvc`, then `lerenet retrain`; services that run do it by themselves"
    )


@app.command()
def drift(
    old: Annotated[Path, typer.Argument(help="A data folder, or a catalogue (.parquet).")],
    new: Annotated[Path, typer.Argument(help="Another one, to be compared with it.")],
    embeddings: Annotated[
        bool, typer.Option(help="Of data folders: compare what the frozen backbone sees, too.")
    ] = True,
) -> None:
    """Compare two versions of the data, class by class, as Markdown; status 1 when a class shifted."""
    from lerenet import layout
    from lerenet.drift.compare import drift_summary
    from lerenet.drift.markdown import drift_markdown
    from lerenet.drift.profile import profiled
    from lerenet.params import DriftSettings, load_params

    settings = load_params(layout.PARAMS).drift if layout.PARAMS.exists() else DriftSettings()
    summary = drift_summary(profiled(old, embeddings), profiled(new, embeddings), settings)
    typer.echo(drift_markdown(summary))
    if summary["shifts"]:
        raise typer.Exit(1)


def _show(
    source: str,
    data: Path,
    folds: Sequence[Sequence[str]],
    defect: Mapping[str, int],
    clean: Mapping[str, int],
) -> None:
    from rich.table import Table

    table = Table(title=f"{shown(data)} ({source})")
    for heading in ("fold", "class", "defect", "clean"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for number, names in enumerate(folds):
        for cls in names:
            table.add_row(str(number), cls, str(defect.get(cls, 0)), str(clean.get(cls, 0)))
    console().print(table)


def _show_unused(source: str, unused: Sequence[str], most: int = 20) -> None:
    if unused:
        names = "".join(f"\n  {name}" for name in unused[:most])
        more = f"\n  and {len(unused) - most} more" if len(unused) > most else ""
        typer.echo(
            f"warning: left out, as {source} has no rule for them: {len(unused)} image files{names}{more}",
            err=True,
        )
