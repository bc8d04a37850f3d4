"""A year of deliveries, simulated: ``python -m benchmarks.year`` enrols, inspects and gates each of them.

The images of ``data/`` come in 60 parcels, five a class, groups whole, in an order that a seed draws: 12 at the start,
then twelve deliveries of three, and 12 that never come: with what is still under way they are the images to come, which
no model has seen. Each delivery is learnt by a challenger, as stage ``enrol`` does, and judged by the gate, as a
retraining does; beside the truth, the same delivery with its masks swapped between its images, and with its masks
shifted by a quarter of the side. A class that was learnt from the same images is not learnt again, so that the command
goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer

from benchmarks.results import machine
from lerenet import layout
from lerenet.data.cataloguing import build_catalog
from lerenet.enrolment.enrol import learn
from lerenet.enrolment.enrolled import CURVE, READINGS, Enrolled, Image, Left, load_enrolled, save_enrolled
from lerenet.enrolment.leave_out import readings
from lerenet.enrolment.material import Material
from lerenet.enrolment.stored import code_digest, material_of
from lerenet.enrolment.variants import asked, marks
from lerenet.enrolment.verdicts import NOT_CALIBRATED, episodes, judged, left_out
from lerenet.evaluation.located import chance_of_fit
from lerenet.evaluation.metrics import miou
from lerenet.features.store import FeatureStore
from lerenet.files import write_json
from lerenet.models.serialization import matching_network
from lerenet.params import Params, load_params
from lerenet.progress import progress
from lerenet.registry import gate
from lerenet.registry.doubts import doubted
from lerenet.registry.live import unknown
from lerenet.registry.live_gate import compare
from lerenet.seeds import generator

PARCELS, START, DELIVERIES, EACH = (
    5,
    12,
    12,
    3,
)  # parcels a class; at the start; deliveries, and parcels of each
Classes = dict[str, tuple[Enrolled, Left]]
Places = dict[str, list[int]]  # class -> places of its images


def swapped(masks: torch.Tensor) -> torch.Tensor:
    """Each image has the mask of the next."""
    return masks.roll(1, 0)


def shifted(masks: torch.Tensor) -> torch.Tensor:
    """Each mask lies a quarter of the side to the right and below."""
    return masks.roll((masks.shape[1] // 4, masks.shape[2] // 4), (1, 2))


class Factory:
    """The images of every class, and models learnt from some of them."""

    def __init__(self, params: Params, catalog: pd.DataFrame, store: FeatureStore, kept: Path) -> None:
        self.params, self.kept, self.network = params, kept, store.weights
        self.left: dict[tuple[str, str, str], pd.DataFrame] = {}
        self.served: dict[tuple[str, str, str], pd.DataFrame] = {}
        self.settings = params.enrolment.model_copy(update={"curve": ()})
        self.rows = {
            str(cls): rows.sort_values("image").reset_index(drop=True) for cls, rows in catalog.groupby("cls")
        }
        self.material = {cls: material_of(store, rows, (2, 3, 4)) for cls, rows in self.rows.items()}

    def parcels(self, rng: np.random.Generator) -> list[tuple[str, list[int]]]:
        """Places of images of one class each, in the order in which they come."""
        found = []
        for cls, rows in self.rows.items():
            dealt = np.zeros(len(rows), int)
            marked = set(rows.loc[rows["kind"] == "defect", "group"])
            for kind in (sorted(marked), sorted(set(rows["group"]) - marked)):
                for number, group in enumerate(rng.permutation(kind) if kind else []):
                    dealt[(rows["group"] == group).to_numpy()] = number % PARCELS
            found += [(cls, np.flatnonzero(dealt == number).tolist()) for number in range(PARCELS)]
        return [found[place] for place in rng.permutation(len(found))]

    def learn(self, cls: str, places: list[int], material: Material, mark: str = "") -> tuple[Enrolled, Left]:
        """A class from some of its images; kept by what they are."""
        rows = self.rows[cls].loc[places]
        seen = rows[["image", "sha256", "mask_sha256"]].to_numpy(str).tolist()
        said = json.dumps([seen, mark, self.settings.model_dump(), code_digest()])
        folder = self.kept / hashlib.sha256(said.encode()).hexdigest()[:24]
        if not (folder / cls).is_dir():
            images = [Image(str(row.image), str(row.sha256), str(row.group)) for row in rows.itertuples()]
            part = material.only(places)
            save_enrolled(folder, *learn(cls, part, images, self.network, self.settings, self.params.seed))
        left = Left(*(pd.read_parquet(folder / cls / name) for name in (READINGS, CURVE)))
        return load_enrolled(folder / cls), left

    def challenger(self, known: Places, seen: Mapping[str, Material], mark: str = "") -> Classes:
        """What is learnt from the images; where ``seen`` holds other masks than the true ones, ``mark`` names them."""
        classes = {}
        for cls, places in known.items():
            if self.material[cls].defect[places].any():
                classes[cls] = self.learn(
                    cls, places, seen[cls], mark if seen[cls] is not self.material[cls] else ""
                )
        return classes

    def spoilt(self, new: Places, spoil: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, Material]:
        """The images with the masks of the new ones spoilt."""
        seen = dict(self.material)
        for cls, places in new.items():
            marks, bad = list(self.material[cls].marks), [p for p in places if self.material[cls].defect[p]]
            spoilt = spoil(torch.stack([marks[place] for place in bad])) if bad else ()
            for place, one in zip(bad, spoilt, strict=True):
                marks[place] = one
            seen[cls] = replace(self.material[cls], marks=marks)
        return seen

    def own(self, classes: Classes) -> pd.DataFrame:
        """What a model says of its own images, each left out."""
        shares = (self.settings.false_calls, self.settings.reviews)
        tables = [left_out(left.readings, *shares).assign(cls=cls) for cls, (_, left) in classes.items()]
        return pd.concat(tables, ignore_index=True)

    def beside(self, classes: Classes, rows: pd.DataFrame, seen: Mapping[str, Material]) -> pd.DataFrame:
        """What a model says of the images of another's ``rows``, each left out where it knows it."""
        parts = []
        for cls, part in rows.groupby("cls"):
            if cls not in classes:
                parts.append(unknown(part))
                continue
            name = str(cls)
            said = self.said(name, classes[name], seen[name])
            parts.append(said[said["image"].isin(part["image"])])
        return pd.concat(parts, ignore_index=True) if parts else rows

    def said(self, cls: str, model: tuple[Enrolled, Left], material: Material) -> pd.DataFrame:
        """What one class says of all its images, left out where known; kept for the true masks."""
        enrolled, left = model
        key = (cls, str(enrolled.examples), str(enrolled.good))
        if material is self.material[cls] and key in self.left:
            return self.left[key]
        rows = asked(enrolled, left.readings, material, self.settings.false_calls, self.settings.reviews)
        names = self.rows[cls]["image"].to_numpy()
        rows = rows.assign(image=[names[place] for place in rows.pop("place")], cls=cls)
        if material is self.material[cls]:
            self.left[key] = rows
        return rows

    def to_come(self, classes: Classes, future: Places) -> pd.DataFrame:
        """What a model says of images that it was never given; a class that it does not know it leaves unmarked."""
        parts = []
        for cls, places in future.items():
            if cls in classes:
                rows = self.whole(cls, classes[cls][0])
                parts.append(rows[rows["place"].isin(places)])
            else:
                parts.append(unknown(_asked(self, {cls: places})))
        return pd.concat(parts, ignore_index=True)

    def whole(self, cls: str, enrolled: Enrolled) -> pd.DataFrame:
        """What one class, as it serves, says of the images that it does not know; kept."""
        key = (cls, str(enrolled.examples), str(enrolled.good))
        if key not in self.served:
            known = {image.name for image in (*enrolled.examples, *enrolled.good)}
            strange = np.flatnonzero(~self.rows[cls]["image"].isin(known))
            material = self.material[cls]
            own = enrolled.known(material.descriptors.device)
            rows = readings(material, own, strange, 0, (enrolled.reader,))
            self.served[key] = judged(rows, enrolled.point, enrolled.surface).assign(cls=cls)
        return self.served[key]


def scores(rows: pd.DataFrame) -> dict[str, float]:
    """mIoU, and the shares of defects and of good parts called NG, in percent."""
    sure = rows[rows["verdict"] != NOT_CALIBRATED]
    called = {kind: 100 * float((part["verdict"] == "NG").mean()) for kind, part in sure.groupby("defect")}
    return {
        "miou": miou(rows[rows["defect"]]),
        "called": called.get(True, float("nan")), "false_calls": called.get(False, float("nan")),
    }  # fmt: skip


def merged(*parts: Iterable[tuple[str, list[int]]]) -> Places:
    """Parcels by class."""
    table: Places = {}
    for cls, places in (parcel for part in parts for parcel in part):
        table[cls] = sorted([*table.get(cls, []), *places])
    return table


def alike(one: Enrolled, two: Enrolled) -> bool:
    """Whether two classes were learnt from the same images."""
    return (one.examples, one.good) == (two.examples, two.good)


def doubts(
    factory: Factory, champion: Classes, known: Places, came: Mapping[str, int], seen: Mapping[str, Material]
) -> tuple[str, ...]:
    """New masks that don't belong to their images, as the champion sees it."""
    rows = factory.beside(champion, _asked(factory, known), seen)
    given = {image.name for one, _ in champion.values() for image in (*one.examples, *one.good)}

    def fit(cls: str, images: list[str]) -> float:
        material = seen[cls].only(np.flatnonzero(factory.rows[cls]["image"].isin(images)).tolist())
        enrolled, left = champion[cls]
        marked = marks(enrolled, left.readings, material)
        masks = (torch.stack(list(material.marks)) > 0).cpu().numpy()
        return chance_of_fit(np.stack(marked), masks, material.groups)

    return tuple(doubted(rows, {name: number for name, number in came.items() if name not in given}, fit))


def judge(
    factory: Factory,
    champion: Classes,
    known: Places,
    came: Mapping[str, int],
    seen: Mapping[str, Material],
    mark: str = "",
) -> tuple[gate.Verdict, Classes]:
    """What the gate decides, with nothing gained or lost on novel classes; and the challenger.

    Where new masks are doubted a rejection is sure, and nothing is learnt.
    """
    settings, seed = factory.params.gate, factory.params.seed
    found = doubts(factory, champion, known, came, seen)
    if found and mark:
        return gate.Verdict("rejected", found), {}
    challenger = factory.challenger(known, seen, mark)
    after = factory.own(challenger)
    same = [cls for cls, (one, _) in challenger.items() if cls in champion and alike(one, champion[cls][0])]
    changed = after[~after["cls"].isin(same)]
    before = pd.concat([after[after["cls"].isin(same)], factory.beside(champion, changed, seen)])
    novel = episodes(after[after["defect"]])
    guards = gate.Guards(validated=True, latency_ms=0.0, export_agrees=True, doubts=found)
    live = compare(before, after, settings, factory.settings.false_calls, seed)
    return gate.decide(novel, novel, settings, guards, seed, live), challenger


def year(factory: Factory, seed: int) -> Iterable[dict[str, Any]]:
    """A row for the start and for each delivery."""
    parcels = factory.parcels(generator(seed, "year"))
    given = merged(parcels[:START])
    first = champion = factory.challenger(given, factory.material)
    came: dict[str, int] = {}
    for number in range(DELIVERIES + 1):
        start = START + EACH * (number - 1)
        new, future = merged(parcels[start : start + EACH]), merged(parcels[start + EACH :])
        came |= {factory.rows[cls]["image"][place]: number for cls, places in new.items() for place in places}
        row: dict[str, Any] = {"delivery": number}
        if number:
            given = merged(given.items(), new.items())
            verdict, challenger = judge(factory, champion, given, came, factory.material)
            row |= {
                "outcome": verdict.outcome, "reasons": verdict.reasons, "classes": sorted(new),
                "images": sum(map(len, new.values())),
                "champion to come": scores(factory.to_come(champion, future)),
                "challenger to come": scores(factory.to_come(challenger, future)),
            }  # fmt: skip
            for spoil in (swapped, shifted):
                mark = f"{spoil.__name__} {sorted(new.items())}"
                bad, _ = judge(factory, champion, given, came, factory.spoilt(new, spoil), mark)
                row[spoil.__name__] = {"outcome": bad.outcome, "reasons": bad.reasons}
            champion = challenger if verdict.promotes else champion
        yield row | {
            "live": scores(factory.beside(champion, _asked(factory, given), factory.material)),
            "never retrained": scores(factory.beside(first, _asked(factory, given), factory.material)),
            "live to come": scores(factory.to_come(champion, future)),
            "never retrained to come": scores(factory.to_come(first, future)),
        }


def _asked(factory: Factory, given: Places) -> pd.DataFrame:
    """Rows that name images, as `Factory.beside` reads them."""
    tables = []
    for cls, places in given.items():
        rows = factory.rows[cls].loc[places]
        masks = torch.stack([factory.material[cls].marks[place] > 0 for place in places]).flatten(1)
        marked = masks.sum(1).cpu().numpy()
        tables.append(
            pd.DataFrame({
                "cls": cls, "image": rows["image"], "group": rows["group"], "defect": rows["kind"] == "defect",
                "tp": 0, "fp": 0, "fn": marked, "tn": masks.shape[1] - marked,
            })
        )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def main(
    seed: Annotated[int, typer.Option(min=0, help="Of the order in which images come.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder: a JSON for each order.")] = Path(
        "artifacts/benchmarks/year"
    ),
) -> None:
    """Live through one year; print a table."""
    params = load_params(layout.PARAMS)
    out.mkdir(parents=True, exist_ok=True)
    catalog = build_catalog(layout.DATA, out / "catalog.parquet")
    network = matching_network(params.image_size, init=params.init).network
    store = FeatureStore(network.backbone, catalog, params, layout.DATA)
    classes = sorted(catalog["cls"].unique())
    with progress("features", store.size(classes)) as store.tick:
        store.ensure(classes)
    factory = Factory(params, catalog, store, out / "classes")
    rows = []
    with progress("deliveries", DELIVERIES + 1) as tick:
        for row in year(factory, seed):
            rows.append(row)
            facts = {"machine": machine(), "data": layout.data_md5(), "seed": seed, "images": len(catalog)}
            write_json(
                out / f"{seed}.json", {**facts, "settings": params.enrolment.model_dump(), "rows": rows}
            )
            tick(1, str(row.get("outcome", "start")))
    typer.echo(
        "| delivery | verdict | swapped | shifted | live | never retrained | to come | to come, never |"
    )
    typer.echo("|---|---|---|---|---|---|---|---|")
    for row in rows:
        words = [
            row.get("outcome", "start"),
            *(row.get(one, {}).get("outcome", "") for one in ("swapped", "shifted")),
        ]
        values = [
            row[name]["miou"]
            for name in ("live", "never retrained", "live to come", "never retrained to come")
        ]
        typer.echo(
            f"| {row['delivery']} | {' | '.join(words)} | {' | '.join(f'{value:.1f}' for value in values)} |"
        )


if __name__ == "__main__":
    typer.run(main)
