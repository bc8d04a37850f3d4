"""What the next example of a class buys, and what good parts decide: ``python -m benchmarks.enrolment``.

Every class of ``data/`` is enrolled with its first 1, 5, 20 and all examples, and with up to ten good parts, groups
apart: a group belongs to one of four folds for ever (a hash of its name), and an image is inspected with what the other
folds hold. Matching alone reads the memory; nothing is trained, and nothing is chosen on these images.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from numpy.typing import NDArray
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_auroc

from benchmarks.results import machine
from lerenet import layout
from lerenet.data.cataloguing import build_catalog
from lerenet.enrolment.decision import image_scores
from lerenet.enrolment.describe import SIDE
from lerenet.enrolment.enrol import operating_point
from lerenet.enrolment.inspect import SCALE
from lerenet.enrolment.memory import BUDGET, remember, similarities
from lerenet.features.store import FeatureStore
from lerenet.files import write_json
from lerenet.models.backbones.factory import create_backbone
from lerenet.models.descriptors import stacked
from lerenet.models.refine import refine
from lerenet.models.segmenter import masks_to_grid, to_grid
from lerenet.params import load_params
from lerenet.progress import progress
from lerenet.seeds import generator

LEVELS, TURNS, FOLDS, GOOD = (2, 3, 4), 4, 4, 10
COUNTS = (1, 5, 20, 0)  # of examples; 0: all
DRAWS = 200
FALSE_CALLS, REVIEWS = 0.02, 0.1


def fold_of(group: str) -> int:
    """The fold of a group, the same for ever."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % FOLDS


def in_turn(groups: NDArray[Any], rng: np.random.Generator) -> list[int]:
    """Places of examples in random order, one of each group before a second of any."""
    seen: dict[str, int] = {}
    ranked = []
    for number, place in enumerate(rng.permutation(len(groups))):
        seen[groups[place]] = seen.get(groups[place], 0) + 1
        ranked.append((seen[groups[place]], number, int(place)))
    return [place for _, _, place in sorted(ranked)]


@torch.inference_mode()
def inspected(store: FeatureStore, rows: pd.DataFrame, size: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each image of one class and each count of examples."""
    views = [(str(name), 0) for name in rows["image"]]
    descriptors = stacked([to_grid(level, SIDE).flatten(2) for level in store.features(views, LEVELS)])
    masks, pictures = store.masks(views), store.pictures(views)
    shares = masks_to_grid(masks[:, None], SIDE)[:, 0].flatten(1)
    groups, defect = rows["group"].to_numpy(str), (rows["kind"] == "defect").to_numpy()
    folds = np.array([fold_of(group) for group in groups])
    for fold in range(FOLDS):
        asked, marked, clean = (
            np.flatnonzero(chosen)
            for chosen in (folds == fold, (folds != fold) & defect, (folds != fold) & ~defect)
        )
        if not len(asked) or not len(marked):
            continue
        rng = generator(seed, "enrolment", str(rows["cls"].iloc[0]), fold)
        order, good = marked[in_turn(groups[marked], rng)], rng.permutation(clean)[:GOOD]
        parts = descriptors[good] if len(good) else None
        for count in COUNTS:
            used = order[:count] if count else order
            memory = remember(descriptors[used], shares[used], parts)
            point = None if parts is None else operating_point(memory, parts, FALSE_CALLS, REVIEWS)
            for one in asked:
                near, far, alike = similarities(descriptors[one : one + 1], memory)
                grid = SCALE * (near - far).unflatten(1, (1, SIDE, SIDE))
                logit = F.interpolate(grid, size=(size, size), mode="bilinear", align_corners=False)[:, 0]
                found, truth = refine(logit, pictures[one : one + 1])[0] > 0, masks[one] > 0.5
                score = float(image_scores(near, far, alike))
                yield {
                    "cls": rows["cls"].iloc[0],
                    "examples": count,
                    "group": groups[one],
                    "defect": bool(defect[one]),
                    "hit": int((found & truth).sum()),
                    "union": int((found | truth).sum()),
                    "marked": bool(found.any()),
                    "score": score,
                    "verdict": "" if point is None else point.verdict(score),
                }


def scores(rows: pd.DataFrame) -> dict[str, float]:
    """Scores in percent: mIoU and AUROC of images are means over the classes, the others shares of all images.

    ``good parts marked`` counts the masks before a verdict clears them.
    """
    bad, judged = rows[rows["defect"]], rows[rows["verdict"] != ""]
    good, defects = judged[~judged["defect"]], judged[judged["defect"]]
    areas = [
        float(
            binary_auroc(torch.tensor(part["score"].to_numpy()), torch.tensor(part["defect"].to_numpy(int)))
        )
        for _, part in judged.groupby("cls")
        if part["defect"].nunique() == 2
    ]
    sums = bad.groupby("cls")[["hit", "union"]].sum()
    return {
        "mIoU": 100 * float((sums["hit"] / sums["union"].clip(lower=1)).mean()),
        "AUROC": 100 * float(np.mean(areas)) if areas else float("nan"),
        "false calls": 100 * float((good["verdict"] == "NG").mean()),
        "good parts to review": 100 * float((good["verdict"] == "REVIEW").mean()),
        "good parts marked": 100 * float(good["marked"].mean()),
        "defects called": 100 * float((defects["verdict"] == "NG").mean()),
        "defects called or reviewed": 100 * float((defects["verdict"] != "OK").mean()),
    }


def interval(rows: pd.DataFrame, seed: int) -> dict[str, tuple[float, float, float]]:
    """Each score with its 95 % interval from groups drawn anew within each class."""
    rng = np.random.default_rng(seed)
    parts = {cls: [part for _, part in one.groupby("group")] for cls, one in rows.groupby("cls")}
    drawn = [
        scores(
            pd.concat([each[i] for each in parts.values() for i in rng.integers(len(each), size=len(each))])
        )
        for _ in range(DRAWS)
    ]
    table = pd.DataFrame(drawn)
    low, high = table.quantile(0.025), table.quantile(0.975)
    return {name: (value, float(low[name]), float(high[name])) for name, value in scores(rows).items()}


def main(
    seed: Annotated[int, typer.Option(min=0, help="Of the order of examples.")] = 0,
    out: Annotated[Path, typer.Option(help="JSON with every value.")] = Path(
        "artifacts/benchmarks/enrolment.json"
    ),
) -> None:
    """Enrol and inspect every class of ``data/``, groups apart; print a table."""
    params = load_params(layout.PARAMS)
    with tempfile.TemporaryDirectory() as folder:
        catalog = build_catalog(layout.DATA, Path(folder) / "catalog.parquet")
    backbone = create_backbone("efficientnet_lite0", params.init, LEVELS, TURNS).eval()
    store = FeatureStore(backbone, catalog, params, layout.DATA)
    classes = sorted(catalog["cls"].unique())
    with progress("features", store.size(classes)) as store.tick:
        store.ensure(classes)
    rows: list[dict[str, Any]] = []
    with progress("classes", len(classes)) as tick:
        for cls in classes:
            part = catalog[catalog["cls"] == cls].reset_index(drop=True)
            rows += inspected(store, part, params.image_size, seed)
            tick(1, cls)
    table = pd.DataFrame(rows)
    curve = {count: interval(table[table["examples"] == count], seed) for count in COUNTS}
    names = list(curve[COUNTS[0]])
    typer.echo(f"| examples | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for count, values in curve.items():
        cells = [f"{value:.1f} ({low:.1f} to {high:.1f})" for value, low, high in values.values()]
        typer.echo(f"| {count or 'all'} | {' | '.join(cells)} |")
    facts = {
        "machine": machine(), "data": layout.data_md5(), "seed": seed, "budget": BUDGET, "good parts": GOOD,
        "images": len(catalog), "interval": "95 %, groups drawn anew in each class",
    }  # fmt: skip
    each = {
        cls: {str(count): scores(part[part["examples"] == count]) for count in COUNTS}
        for cls, part in ((name, table[table["cls"] == name]) for name in classes)
    }
    write_json(
        out, {**facts, "curve": {str(count): values for count, values in curve.items()}, "classes": each}
    )
    typer.echo(f"data {facts['data']}, seed {seed}; written to {out}")


if __name__ == "__main__":
    typer.run(main)
