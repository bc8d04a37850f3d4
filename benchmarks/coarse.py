"""Would a first look at half the scale save the second one its squares? ``python -m benchmarks.coarse CLASS``.

Large pictures as `benchmarks.resolution` makes them, with one marked part each. The class is enrolled at its own scale
and at half of it. A first look costs a quarter of the picture's squares; then only the parts that it suspects most
would be looked at as they are. A defect is kept where the first look's square that shows most of it is among those; how
many squares that takes is told for each defect, at half the scale and, for comparison, at the class's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from benchmarks.resolution import Large, folder_of, given_parts, make, own_side
from benchmarks.results import machine
from lerenet import layout
from lerenet.data.cataloguing import build_catalog
from lerenet.data.images import read_image
from lerenet.data.masks import read_mask
from lerenet.data.tiles import tiling
from lerenet.enrolment.enrol import Given, enrol_class
from lerenet.enrolment.enrolled import Enrolled, load_enrolled
from lerenet.enrolment.material import describe
from lerenet.enrolment.readers import read_squares
from lerenet.files import write_json
from lerenet.inference import prepare
from lerenet.models.serialization import LoadedNetwork, matching_network
from lerenet.params import EnrolmentSettings, load_params
from lerenet.progress import progress

SHARES = (0.05, 0.1, 0.25, 0.5)  # of the squares that a second look would take
SCALES = {"half the scale": 2, "its own scale": 1}


@torch.inference_mode()
def squares_needed(loaded: LoadedNetwork, one: Enrolled, side: int, large: Large) -> float:
    """The share of a picture's squares that are at least as suspicious as the one that shows most of the defect."""
    assert large.mask is not None
    picture, truth = read_image(large.picture), read_mask(large.mask)
    how = tiling(truth.shape[0], truth.shape[1], side, loaded.image_size)
    descriptors = describe(loaded, how.cut(how.fitted(picture)))
    scores = read_squares(one.known(descriptors.device), descriptors, (one.reader,))[one.reader].scores()
    shown = torch.tensor([float(part.sum()) for part in how.cut(how.fitted_mask(truth))])
    return float((scores >= scores[shown.argmax()]).float().mean())


def enrolled(
    loaded: LoadedNetwork, cls: str, rows: pd.DataFrame, side: int, good: list[Path], into: Path
) -> Enrolled:
    """The class from the marked pictures of the parts that are not asked about, in squares of ``side``."""
    if not (into / cls).is_dir():
        given = Given(given_parts(rows), good)
        with progress(f"enrol {side}", len(given.examples) + len(good)) as tick:
            enrol_class(cls, given, loaded, into, EnrolmentSettings(curve=()), side, tick)
    return load_enrolled(into / cls)


def main(
    cls: Annotated[str, typer.Argument(metavar="CLASS", help="A class with good parts.")] = "KSDD",
    seed: Annotated[int, typer.Option(min=0, help="Of what lies where.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder: pictures, classes, and a JSON with every value.")] = Path(
        "artifacts/benchmarks/coarse"
    ),
) -> None:
    """Enrol a class at two scales, rank the squares of large pictures by each, and print a table."""
    folder = folder_of(out, cls, seed)
    catalog = build_catalog(layout.DATA, out / "catalog.parquet")
    rows = catalog[catalog["cls"] == cls].sort_values("image")
    large = make(folder, rows, seed)
    good = [one.picture for one in large["given good"]]
    loaded, own = matching_network(load_params(layout.PARAMS).image_size), own_side(rows)
    prepared = prepare(loaded)
    found: dict[str, Any] = {}
    for name, factor in SCALES.items():
        one = enrolled(loaded, cls, rows, own * factor, good, folder / str(own * factor))
        with progress(name, len(large["asked marked"])) as tick:
            needed = []
            for picture in large["asked marked"]:
                needed.append(squares_needed(prepared, one, own * factor, picture))
                tick(1)
        found[name] = {
            "squares of": own * factor,
            "needed": needed,
            "kept": {share: 100 * sum(value <= share for value in needed) / len(needed) for share in SHARES},
        }
    write_json(folder / "coarse.json", {
        "machine": machine(), "data": layout.data_md5(), "seed": seed, "class": cls, "scales": found,
    })  # fmt: skip
    heads = " | ".join(f"kept in {share:.0%} of the squares" for share in SHARES)
    typer.echo(f"{cls}: {len(large['asked marked'])} defects\n| a look at | squares of | {heads} |")
    typer.echo(f"|{'---|' * (2 + len(SHARES))}")
    for name, row in found.items():
        kept = " | ".join(f"{value:.0f} %" for value in row["kept"].values())
        typer.echo(f"| {name} | {row['squares of']} | {kept} |")


if __name__ == "__main__":
    typer.run(main)
