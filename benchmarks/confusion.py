"""Which class an image is given among those of its surface: ``python -m benchmarks.confusion MT_Break MT_Fray ...``.

Every image is inspected for all of the classes at once, each read by what was learnt without the image's fold, reader
and thresholds included. Its answer is the class that marks most of it, of those that call it neither OK nor of another
surface, or none. A picture of each class shows what each class marks, before overlaps are resolved.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from PIL import Image as Picture

from benchmarks.results import machine
from lerenet import layout
from lerenet.data.cataloguing import build_catalog
from lerenet.data.groups import folds_of
from lerenet.drawing import draw_answers
from lerenet.enrolment.decision import SILENT, verdict_of
from lerenet.enrolment.enrol import learn
from lerenet.enrolment.enrolled import Enrolled, Image, Left
from lerenet.enrolment.leave_out import operating_point, surface
from lerenet.enrolment.material import Material
from lerenet.enrolment.readers import read_squares
from lerenet.enrolment.stored import material_of
from lerenet.enrolment.variants import left_view
from lerenet.features.store import FeatureStore
from lerenet.files import write_json
from lerenet.models.serialization import matching_network
from lerenet.params import EnrolmentSettings, load_params
from lerenet.progress import progress

NONE, GOOD = "none of these", "good parts"
Known = dict[str, tuple[Enrolled, Left]]


@torch.inference_mode()
def logits(
    known: Known, material: Material, place: int, settings: EnrolmentSettings
) -> dict[str, torch.Tensor]:
    """Of each class that does not call the image OK, the logits of its pixels (S, S)."""
    fold = int(folds_of([str(material.groups[place])], settings.folds)[0])
    found = {}
    for cls, (enrolled, left) in known.items():
        view, reader, _ = left_view(enrolled, left.readings, fold, material.descriptors.device)
        squares = material.squares([place])
        answer = read_squares(view, material.descriptors[squares], (reader,))[reader]
        others = left.readings[left.readings["fold"] != fold]
        point = operating_point(others, reader, settings.false_calls, settings.reviews)
        if verdict_of(point, surface(others), answer.score(), answer.likeness()) not in SILENT:
            found[cls] = answer.blended(lambda some: material.images(squares[some]), material.tilings[place])  # noqa: B023
    return found


def answered(found: dict[str, torch.Tensor]) -> str:
    """The class that marks most, where overlaps go to the highest logit."""
    if not found:
        return NONE
    best, place = torch.stack(list(found.values())).max(0)
    shares = [int(((place == number) & (best > 0)).sum()) for number in range(len(found))]
    return list(found)[int(np.argmax(shares))] if any(shares) else NONE


def rows(
    known: Known, materials: dict[str, Material], settings: EnrolmentSettings, out: Path
) -> Iterable[dict[str, str]]:
    """A row for each image; a picture for each class."""
    for cls, material in materials.items():
        drawn = False
        for place in range(len(material.groups)):
            found = logits(known, material, place, settings)
            answer = answered(found)
            if material.defect[place] and not drawn and answer == cls:
                drawn = True
                masks = {name: (found[name] > 0).cpu().numpy() for name in known if name in found}
                panel = draw_answers(material.picture(place).numpy(), material.mask(place).numpy(), masks)
                Picture.fromarray(panel).save(out / f"{cls}.png")
            yield {"true": cls if material.defect[place] else GOOD, "answer": answer}


def main(
    classes: Annotated[list[str], typer.Argument(help="Classes of one surface.")],
    out: Annotated[Path, typer.Option(help="Folder of JSON and pictures.")] = Path(
        "artifacts/benchmarks/confusion"
    ),
) -> None:
    """Enrol the classes, inspect every image of theirs, and print the confusion table."""
    params = load_params(layout.PARAMS)
    out.mkdir(parents=True, exist_ok=True)
    catalog = build_catalog(layout.DATA, out / "catalog.parquet")
    network = matching_network(params.image_size, init=params.init).network
    store = FeatureStore(network.backbone, catalog, params, layout.DATA)
    store.ensure(classes)
    known: Known = {}
    materials = {}
    settings = params.enrolment.model_copy(update={"curve": ()})
    with progress("classes", len(classes)) as tick:
        for cls in classes:
            own = catalog[catalog["cls"] == cls].sort_values("image").reset_index(drop=True)
            materials[cls] = material_of(store, own, (2, 3, 4))
            images = [Image(str(row.image), str(row.sha256), str(row.group)) for row in own.itertuples()]
            known[cls] = learn(cls, materials[cls], images, store.weights, settings, params.seed)
            tick(1, cls)
    table = pd.DataFrame(list(rows(known, materials, settings, out)))
    counts = pd.crosstab(table["true"], table["answer"]).reindex(
        index=[*classes, GOOD], columns=[*classes, NONE], fill_value=0
    )
    write_json(out / f"{'-'.join(classes)}.json", {
        "machine": machine(), "data": layout.data_md5(), "seed": params.seed, "table": counts.to_dict("index"),
    })  # fmt: skip
    typer.echo(f"| true, answer | {' | '.join(counts.columns)} |\n|---|{'---|' * len(counts.columns)}")
    for name, values in counts.iterrows():
        typer.echo(f"| {name} | {' | '.join(map(str, values))} |")


if __name__ == "__main__":
    typer.run(main)
