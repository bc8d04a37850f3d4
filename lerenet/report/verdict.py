"""The page of one verdict: what changes for an inspector when the challenger goes live, in numbers and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lerenet.data.scaling import resize_mask
from lerenet.drawing import Mask, Pixels, draw_answers
from lerenet.enrolment.curve import growth
from lerenet.enrolment.enrolled import CLASSES, CURVE, READINGS, load_enrolled
from lerenet.enrolment.variants import marks
from lerenet.enrolment.verdicts import scores
from lerenet.evaluation.metrics import COUNTS, iou
from lerenet.params import Params
from lerenet.registry import ledger, live
from lerenet.registry.registered import INSPECTION
from lerenet.registry.versions import by_number, resolve
from lerenet.report import plots
from lerenet.report.figures import Panel, embedded
from lerenet.report.live import points

SHOWN = 4  # images that got better, and as many that got worse
SCORES = {"iou": "IoU", "called": "defects called %", "false_calls": "good parts called %"}


@dataclass(frozen=True)
class ClassChange:
    """One class: images, how many of them are new to the champion, and score -> before, after."""

    cls: str
    images: int
    new: int
    scores: dict[str, tuple[float | None, float | None]]


def page_of(number: str, params: Params, against: str = "") -> str:
    """The page of a version as the ledger says it was judged, or against another champion.

    Raises:
        TrackingError: no such version, or its files are not there.
    """
    made = [entry for entry in ledger.read() if entry["version"] == number and "verdict" in entry]
    outcome, reasons, previous = "not judged", [], ""
    if made:
        last = made[-1]
        outcome, reasons, previous = last["outcome"], last["verdict"]["reasons"], last["previous"]
    title = f"Version {by_number(number).number}: {outcome}"
    champion = resolve(against or previous) if against or previous else None
    return verdict_page(title, reasons, resolve(number), champion, params)


def verdict_page(
    title: str, reasons: Sequence[str], challenger: Path, champion: Path | None, params: Params
) -> str:
    """HTML: reasons, each class before and after, learning curves, images whose marks changed.

    Args:
        challenger, champion: the packages of two versions.
    """
    after = live.challenger_rows(challenger)
    before = live.champion_rows(champion, challenger, params) if champion else live.unknown(after)
    new = live.new_to(champion, challenger) if champion else set(after["image"])
    environment = Environment(
        loader=PackageLoader("lerenet.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    curves = {cls: points(_growth(challenger, str(cls), rows, params)) for cls, rows in after.groupby("cls")}
    return environment.get_template("verdict.html.j2").render(
        title=title,
        reasons=reasons,
        heads=list(SCORES.values()),
        changes=_changes(before if champion else before.iloc[:0], after, new),
        learning=Markup(plots.learning({str(cls): curve for cls, curve in curves.items()})),
        panels=_panels(_largest(before, after), challenger, champion, params),
        confidence=f"{100 * params.evaluation.confidence:.0f}",
    )


def _growth(package: Path, cls: str, rows: pd.DataFrame, params: Params) -> dict[str, dict[str, float]]:
    curve = pd.read_parquet(package / INSPECTION / CLASSES / cls / CURVE)
    return growth(rows, curve, cls, params.evaluation, params.seed)


def _changes(before: pd.DataFrame, after: pd.DataFrame, new: set[str]) -> list[ClassChange]:
    changes = []
    for cls, rows in after.groupby("cls"):
        one, two = (scores(part) for part in (before[before["cls"] == cls], rows))
        count = int(rows["image"].isin(new).sum())
        changes.append(
            ClassChange(str(cls), len(rows), count, {name: (one[name], two[name]) for name in SCORES})
        )
    return changes


def _largest(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """The defects whose IoU rises and falls the most: ``cls``, ``image``, ``before``, ``after``."""
    both = before.merge(after, on=["cls", "image"], suffixes=("_before", "_after"))
    both = both[both["defect_after"]]
    for when in ("before", "after"):
        both[when] = iou(both[[f"{name}_{when}" for name in COUNTS]].to_numpy(float))
    gain = (both["after"] - both["before"]).to_numpy()
    order = np.argsort(gain, kind="stable")
    chosen = [place for place in order[::-1][:SHOWN] if gain[place] > 0]
    chosen += [place for place in order[:SHOWN] if gain[place] < 0]
    return both.iloc[chosen][["cls", "image", "before", "after"]]


def _panels(changed: pd.DataFrame, challenger: Path, champion: Path | None, params: Params) -> list[Panel]:
    """A picture for each image: what champion and challenger mark on it."""
    packages = {"champion": champion, "challenger": challenger}
    drawn: dict[str, dict[str, Mask]] = {str(image): {} for image in changed["image"]}
    seen: dict[str, tuple[Pixels, Mask]] = {}
    for cls, rows in changed.groupby("cls"):
        names = [str(name) for name in rows["image"]]
        for model, package in packages.items():
            if package is None:
                continue
            folder = package / INSPECTION / CLASSES / str(cls)
            material = live.material(package if folder.is_dir() else challenger, str(cls), names, params)
            if folder.is_dir():
                marked = marks(load_enrolled(folder), pd.read_parquet(folder / READINGS), material)
            for place, name in enumerate(names):
                picture, mask = (part(place).cpu().numpy() for part in (material.picture, material.mask))
                seen.setdefault(name, (picture, mask))
                marks_of = marked[place] if folder.is_dir() else np.zeros_like(mask)
                drawn[name][model] = resize_mask(marks_of, seen[name][1].shape)
    panels = []
    for row in changed.itertuples():
        caption = f"{row.image}: IoU {row.before:.0f} to {row.after:.0f}"
        picture = draw_answers(*seen[str(row.image)], drawn[str(row.image)])
        panels.append(Panel(caption, caption, embedded(picture)))
    return panels
