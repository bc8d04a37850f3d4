"""``lerenet enrol`` and ``lerenet inspect``: a class from its examples, and every class on every photo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lerenet.cli.inspection import (
    CamerasFile,
    Closing,
    Connectivity,
    RulesFile,
    Scale,
    Smallest,
    print_inspection,
    show,
    status,
)
from lerenet.cli.predict import (
    INTERRUPTED,
    Bits,
    DrawnOn,
    Formats,
    Ignore,
    Inverted,
    Json,
    Label,
    Model,
    Out,
    pair_up,
)
from lerenet.files import shown

FOLDER = Path("enrolments")
Into = Annotated[Path, typer.Option("--into", metavar="DIR", help="Folder of the enrolled classes.")]
From = Annotated[Path, typer.Option("--from", metavar="DIR", help="Folder of the enrolled classes.")]


def enrol_command(
    name: Annotated[str, typer.Argument(metavar="CLASS", help="Name of the kind of defect.")],
    example: Annotated[
        list[Path],
        typer.Option(
            "--example", "-e", metavar="IMG MASK", help="Image and mask of a marked defect; any number."
        ),
    ],
    good: Annotated[
        list[Path] | None,
        typer.Option("--good", "-g", metavar="IMG…", help="Good parts of the same surface."),
    ] = None,
    into: Into = FOLDER,
    model: Model = "champion",
    false_calls: Annotated[
        float, typer.Option(min=0, max=1, help="Share of good parts that may be called bad.")
    ] = 0.02,
    reviews: Annotated[
        float, typer.Option(min=0, max=1, help="Share of good parts that a person may be asked about.")
    ] = 0.1,
    steps: Annotated[
        int, typer.Option(min=0, help="Of fitting a head to the class; 0: none, photos are only compared.")
    ] = 150,
    tile: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=8000,
            help="Pixels of the photos that make a square; 0: squashed to one. By their shape else.",
        ),
    ] = None,
    label: Label = "",
    ignore: Ignore = "",
    inverted: Inverted = False,
    drawn_on: DrawnOn = "",
    bits: Bits = 0,
) -> None:
    """Enrol a kind of defect from marked examples, and good parts to decide by.

    lerenet enrol Rust --example a.jpg a_mask.png b.jpg b_mask.png --good good/*.jpg

    It takes the place of an earlier draft of its name; what the model knows is refused. With fewer than five good parts
    nothing is called.
    """
    from lerenet.data.reading import Reading
    from lerenet.enrolment.enrol import Given, enrol_class
    from lerenet.params import EnrolmentSettings
    from lerenet.predict.inspecting import open_inspection, require_new
    from lerenet.predict.queries import find_queries
    from lerenet.predict.supports import joined_masks
    from lerenet.progress import progress

    reading = Reading(bits, label, ignore, inverted, drawn_on)
    clean = find_queries(good, into) if good else []
    given = Given(list(joined_masks(pair_up(example, "--example")).items()), clean, reading)
    settings = EnrolmentSettings(false_calls=false_calls, reviews=reviews, steps=steps)
    loaded, classes = open_inspection(model)
    require_new(name, classes)
    with progress("enrol", len(given.examples) + len(clean)) as tick:
        enrolled = enrol_class(name, given, loaded, into, settings, tile, tick)
    memory, point = enrolled.memory, enrolled.point
    places = (
        f"{len(memory.foreground)} defect, {len(memory.background)} surface, {len(memory.good)} good places"
    )
    typer.echo(f"{name}: {len(given.examples)} examples, {len(clean)} good parts; {places}")
    seen = f"in squares of {enrolled.side} pixels" if enrolled.side else "as a whole"
    typer.echo(f"  read by {enrolled.reader}, {seen}")
    if point is None:
        typer.echo("  not calibrated: give five good parts or more, and images are called OK, REVIEW or NG")
    else:
        typer.echo(
            f"  REVIEW above {point.review:.3f}, NG above {point.bad:.3f}, by {point.parts} left-out good parts"
        )
    typer.echo(f"written to {into / name}")


def inspect_command(
    images: Annotated[list[Path], typer.Argument(metavar="IMG…", help="Photos, or their folder.")],
    out: Out,
    enrolled: From = FOLDER,
    model: Model = "champion",
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", "-c", help="Inspect for this class alone; repeat it. All if none."),
    ] = None,
    mark_good: Annotated[
        bool, typer.Option("--mark-good", help="Keep marks on images that are called OK.")
    ] = False,
    formats: Formats = None,
    bits: Bits = 0,
    scale: Annotated[
        float,
        typer.Option(
            min=0.05,
            max=20,
            help="2: the photos are twice as fine as those that the classes were learnt from.",
        ),
    ] = 1.0,
    cameras: CamerasFile = None,
    rules: RulesFile = None,
    mm_per_pixel: Scale = None,
    closing: Closing = None,
    smallest: Smallest = None,
    connectivity: Connectivity = None,
    probability: Annotated[
        bool, typer.Option("--probability", help="Write the probability of each pixel, as 16-bit PNGs.")
    ] = False,
    exit_status: Annotated[
        bool, typer.Option("--exit-status", help="Status 3: some photos are NG; 4: some are REVIEW, none NG.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Inspect photos for every enrolled kind of defect: a verdict, marks, an overlay and measurements of each.

    lerenet inspect parts/ --out found --rules rules.yaml --mm-per-pixel 0.05

    Interrupted, the same command goes on. Status 1: some photos could not be read.
    """
    from lerenet.enrolment.inspect import Inspector
    from lerenet.measure.cameras import Cameras, load_cameras
    from lerenet.measure.rules import Rules, fitted, load_rules
    from lerenet.predict.inspecting import only, open_inspection, with_drafts
    from lerenet.predict.inspections import Manner, inspect_all
    from lerenet.predict.queries import find_queries
    from lerenet.progress import progress

    asked = Rules() if rules is None else load_rules(rules)
    loaded, own = open_inspection(model)
    inspector = Inspector(loaded, only(with_drafts(own, enrolled), classes or ()), scale)
    options = {
        "mm_per_pixel": mm_per_pixel,
        "closing": closing,
        "smallest": smallest,
        "connectivity": connectivity,
    }
    photos = find_queries(images, out)
    known = Cameras() if cameras is None else load_cameras(cameras)
    names = [one.name for one in inspector.classes]
    asked = fitted(asked, names, options, shown(rules or "rules"), known.sizes(photos))
    manner = Manner(mark_good, bits, probability, asked, tuple(formats or ()), known)
    try:
        with progress("inspect", len(photos)) as tick:
            rows = inspect_all(inspector, photos, out, manner, tick)
    except KeyboardInterrupt as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_inspection(rows)
    else:
        show(rows, out, decided=rules is not None)
    if code := status(rows, exit_status):
        raise typer.Exit(code)
