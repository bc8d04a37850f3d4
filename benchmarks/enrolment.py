"""What the next example of a class buys, and what good parts decide: ``python -m benchmarks.enrolment``.

Every class of ``data/`` is enrolled with its first 1, 5, 20 and all examples, and with up to ten good parts, groups
apart: a group belongs to one of four folds for ever, and an image is inspected with what was learnt from the other
folds alone, reader and thresholds included. Nothing is chosen on the images that are inspected. A class is
worked on at the scale that stage ``enrol`` gives it. One that is done is kept, so that the command goes on where it was
stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from benchmarks.results import machine
from lerenet import layout
from lerenet.data.cataloguing import build_catalog
from lerenet.data.groups import folds_of, in_turn
from lerenet.enrolment.enrol import learn
from lerenet.enrolment.enrolled import Image
from lerenet.enrolment.leave_out import ALIKE, readings
from lerenet.enrolment.readers import READERS
from lerenet.enrolment.stored import code_digest
from lerenet.enrolment.verdicts import NOT_CALIBRATED, as_served, auroc, episodes
from lerenet.evaluation.metrics import miou
from lerenet.evaluation.regions import OVERLAP, REGIONS
from lerenet.evaluation.resampling import paired_bootstrap
from lerenet.files import atomic_path, write_json
from lerenet.params import EnrolmentSettings, load_params
from lerenet.progress import progress
from lerenet.seeds import generator
from lerenet.stages.enrol import Enrolment

COUNTS = (1, 5, 20, 0)  # of examples; 0: all
DRAWS = 200
ANSWER = "enrolled"  # the reader that was chosen


def inspected(
    stage: Enrolment, name: str, settings: EnrolmentSettings, good: int, seed: int
) -> Iterator[pd.DataFrame]:
    """A row for each image of one class, each count of examples and each reader; `ANSWER` is the chosen one's."""
    material, side = stage.material(name), stage.sides[name]
    images = [Image(str(row.image), str(row.sha256), str(row.group)) for row in stage.rows[name].itertuples()]
    folds = folds_of(material.groups.tolist(), settings.folds)
    for fold in sorted(set(folds.tolist())):
        asked = np.flatnonzero(folds == fold)
        marked = [place for place in material.examples if folds[place] != fold]
        clean = [place for place in material.good if folds[place] != fold]
        if not marked:
            continue
        rng = generator(seed, "enrolment", name, fold)
        marked = [marked[place] for place in in_turn(material.groups[marked].tolist(), rng)]
        clean = [clean[place] for place in rng.permutation(len(clean))[:good]]
        for count in COUNTS:
            if count > len(marked):
                continue
            used = [*(marked[:count] if count else marked), *clean]
            part = material.only(used)
            own = [images[place] for place in used]
            enrolled, _ = learn(name, part, own, stage.network, settings, seed, side=side)
            found = readings(material, enrolled.known(part.descriptors.device), asked, fold)
            answer = found[found["reader"] == enrolled.reader].assign(reader=ANSWER, chosen=enrolled.reader)
            pairs = zip(answer["score"], answer[ALIKE], strict=True)
            verdicts = [enrolled.verdict(score, alike) for score, alike in pairs]
            yield pd.concat([found, answer.assign(verdict=verdicts)]).assign(cls=name, examples=count)


def made_by(settings: EnrolmentSettings) -> str:
    """Eight characters of the code, the settings and the data that a table is made by."""
    said = code_digest() + settings.model_dump_json() + layout.data_md5()
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def scores(rows: pd.DataFrame) -> dict[str, float]:
    """Scores in percent: mIoU and AUROC of images are means over the classes, the others shares of all images.

    Those after ``OK cleared`` are of classes with good parts.
    """
    bad, judged = rows[rows["defect"]], rows[~rows["verdict"].isin([NOT_CALIBRATED, None])]
    good, defects = judged[~judged["defect"]], judged[judged["defect"]]
    areas = [area for _, part in rows.groupby("cls") if (area := auroc(part)) is not None]
    seen = as_served(rows[rows["cls"].isin(rows.loc[~rows["defect"], "cls"].unique())])
    before = rows[rows["cls"].isin(seen["cls"].unique())]
    found = {
        "mIoU": miou(bad),
        "per-region overlap": 100 * float(bad[OVERLAP].sum() / bad[REGIONS].sum()),
        "AUROC": float(np.mean(areas)) if areas else float("nan"),
        "false calls": 100 * float((good["verdict"] == "NG").mean()),
        "good parts to review": 100 * float((good["verdict"] == "REVIEW").mean()),
        "defects called": 100 * float((defects["verdict"] == "NG").mean()),
        "defects called or reviewed": 100 * float(defects["verdict"].isin(("NG", "REVIEW")).mean()),
        "good parts without a mark": 100 * float((before.loc[~before["defect"], "fp"] == 0).mean()),
    }
    if judged.empty:
        return found
    return found | {
        "the same, OK cleared": 100 * float((seen.loc[~seen["defect"], "fp"] == 0).mean()),
        "mIoU lost by clearing": miou(before[before["defect"]]) - miou(seen[seen["defect"]]),
    }


def interval(rows: pd.DataFrame, seed: int) -> dict[str, tuple[float, float, float]]:
    """Each score with its 95 % interval from groups drawn anew within each class, alike in all orders."""
    rng = np.random.default_rng(seed)
    rows = rows.reset_index(drop=True)
    places = [
        [one.index[inside].to_numpy() for inside in one.groupby("group").indices.values()]
        for _, one in rows.groupby("cls")
    ]
    drawn = [
        scores(
            rows.take(
                np.concatenate([each[i] for each in places for i in rng.integers(len(each), size=len(each))])
            )
        )
        for _ in range(DRAWS)
    ]
    table = pd.DataFrame(drawn)
    low, high = table.quantile(0.025), table.quantile(0.975)
    found = scores(rows)
    return {
        name: (value, float(low[name]), float(high[name]))
        for name, value in found.items()
        if not np.isnan(value)
    }


def gain(table: pd.DataFrame, one: tuple[str, int], two: tuple[str, int]) -> dict[str, Any]:
    """What a reader with so many examples (``two``) has more than another (``one``), on the images that both read."""
    keys = ["seed", "cls", "place"]
    rows = [
        table[table["defect"] & (table["reader"] == reader) & (table["examples"] == count)]
        for reader, count in (one, two)
    ]
    both = pd.merge(rows[0][keys], rows[1][keys])
    before, after = (
        episodes(
            pd.merge(both, part).assign(image=lambda t: t["place"].astype(str) + " " + t["seed"].astype(str))
        )
        for part in rows
    )
    overall = paired_bootstrap(before, after, seed=0)
    each = {}
    for cls in sorted(before["cls"].unique()):
        found = paired_bootstrap(before[before["cls"] == cls], after[after["cls"] == cls], seed=0)
        each[cls] = (found.gain, found.low, found.high)
    return {"all": (overall.gain, overall.low, overall.high), **each}


def main(
    seeds: Annotated[
        list[int], typer.Option("--seed", min=0, help="Of the order of examples; repeat it.")
    ] = [0],  # noqa: B006
    good: Annotated[int, typer.Option(min=0, help="Good parts that a class is enrolled with, at most.")] = 10,
    out: Annotated[
        Path, typer.Option(help="Folder: a table for each class, and a JSON with every value.")
    ] = Path("artifacts/benchmarks/enrolment"),
) -> None:
    """Enrol and inspect every class of ``data/``, groups apart; print a table."""
    params = load_params(layout.PARAMS)
    out.mkdir(parents=True, exist_ok=True)
    catalog = build_catalog(layout.DATA, out / "catalog.parquet")
    stage, settings = Enrolment(params, catalog), params.enrolment.model_copy(update={"curve": ()})
    with progress("features", stage.store.size(stage.classes)) as stage.store.tick:
        stage.store.ensure(stage.classes)
    tables = []
    with progress("classes", len(stage.classes) * len(seeds)) as tick:
        for seed, cls in product(seeds, stage.classes):
            path = out / f"{cls}-{seed}-{good}-{made_by(settings)}.parquet"
            if not path.exists():
                found = pd.concat(inspected(stage, cls, settings, good, seed))
                with atomic_path(path) as temporary:
                    found.to_parquet(temporary, index=False)
            tables.append(pd.read_parquet(path).assign(seed=seed))
            tick(1, cls)
    table = pd.concat(tables, ignore_index=True)
    by = ["reader", "examples"]
    curve = {f"{reader} {count or 'all'}": interval(part, 0) for (reader, count), part in table.groupby(by)}
    each = {
        cls: {
            f"{reader} {count or 'all'}": {
                name: value for name, value in scores(part).items() if not np.isnan(value)
            }
            for (reader, count), part in rows.groupby(by)
        }
        for cls, rows in table.groupby("cls")
    }
    write_json(out / f"{good}.json", {
        "machine": machine(), "data": layout.data_md5(), "seeds": seeds, "good parts": good, "images": len(catalog),
        "settings": params.enrolment.model_dump(), "interval": "95 %, groups drawn anew in each class",
        "curve": curve, "classes": each,
        **{
            f"gain over {reader} with {count or 'all'}": gain(table, (reader, count), (ANSWER, 0))
            for reader, count in product(READERS[:2], (5, 0))
        },
    })  # fmt: skip
    typer.echo(f"written: {out / f'{good}.json'}; `python -m benchmarks.page` makes a page of it")


if __name__ == "__main__":
    typer.run(main)
