"""What each scale gives each class, by matching, groups left out: ``python -m benchmarks.scales``.

Every image of a class is read as a whole, in squares of its pictures' short side, and of half of it, where the pipeline
would choose among them (`lerenet.enrolment.scale`); squares without a defect are quiet as they are in use.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from benchmarks.results import machine
from lerenet import layout
from lerenet.data.cataloguing import build_catalog
from lerenet.data.tiles import tiled
from lerenet.enrolment.enrol import remembered
from lerenet.enrolment.leave_out import held_out, readings, without
from lerenet.enrolment.quiet import quieted
from lerenet.enrolment.readers import READERS, Known
from lerenet.enrolment.scale import sides_of
from lerenet.enrolment.stored import material_of
from lerenet.enrolment.verdicts import left_out, scores
from lerenet.features.store import FeatureStore
from lerenet.files import write_json
from lerenet.models.serialization import matching_network
from lerenet.params import Params, load_params

SHOWN = ("iou", "pro", "auroc", "called", "false_calls")


def at_scale(rows: pd.DataFrame, side: int, params: Params) -> dict[str, Any]:
    """Scores of a class at one scale, each image left out."""
    loaded, settings = matching_network(params.image_size), params.enrolment
    began, cls = time.monotonic(), str(rows["cls"].iloc[0])
    squares = tiled(rows, {cls: side}, params.image_size)
    store = FeatureStore(loaded.network.backbone, squares, params, layout.DATA)
    store.ensure([cls])
    material = material_of(store, squares, loaded.network.head.levels)
    memory = remembered(material, settings)
    left = {
        fold: (Known(without(memory, material, kept)), asked)
        for fold, (kept, asked) in held_out(material, settings.folds).items()
    }
    parts, _ = quieted(material, left, settings.false_calls, settings.reviews)
    found = [readings(material, known, asked, fold, READERS[:1]) for fold, (known, asked) in parts.items()]
    said = scores(left_out(pd.concat(found).assign(image=""), settings.false_calls, settings.reviews))
    return {"side": side, "squares": len(squares), "seconds": time.monotonic() - began} | {
        name: said[name] for name in SHOWN
    }


def main(
    classes: Annotated[
        list[str] | None, typer.Argument(help="Classes; all that have a choice if none.")
    ] = None,
    out: Annotated[Path, typer.Option(help="JSON with every value, kept class by class.")] = Path(
        "artifacts/benchmarks/scales.json"
    ),
) -> None:
    """Read every class at every scale that comes into question; print and keep a row each."""
    params = load_params(layout.PARAMS)
    out.parent.mkdir(parents=True, exist_ok=True)
    catalog = build_catalog(layout.DATA, out.parent / "catalog.parquet")
    table: dict[str, Any] = {}
    for cls, rows in catalog.groupby("cls"):
        shapes = list(zip(rows["height"], rows["width"], strict=True))
        sides = sides_of(shapes, params.image_size)
        if (classes and cls not in classes) or len(sides) < 2:
            continue
        table[str(cls)] = [at_scale(rows.sort_values("image"), side, params) for side in sides]
        for row in table[str(cls)]:
            typer.echo(f"{cls}: {json.dumps(row)}")
        write_json(
            out, {"machine": machine(), "data": layout.data_md5(), "seed": params.seed, "classes": table}
        )


if __name__ == "__main__":
    typer.run(main)
