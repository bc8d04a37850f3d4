"""Small artifacts of every stage, as plausible numbers from a fixed seed."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from lerenet.evaluation.masks import save_masks
from lerenet.evaluation.metrics import class_iou, clean_scores, mean_of_both, summed

CLASSES = {
    "fold0": ["Al_Pit", "KSDD", "MT_Uneven", "NEU_Inclusion"],
    "fold1": ["Al_MissingPaint", "Steel_Pa", "Steel_Sc", "leather"],
    "fold2": ["Al_SurfaceBulge", "MT_Break", "MT_Fray", "tile"],
}
BACKBONE = "efficientnet_lite0"
FLOORS = {"all_foreground": 0.0, "all_background": -9.0, "prototype": -1.6, "matching": -0.7}
DIGEST = "0123456789abcdef" * 2
SIDE = 40_000  # pixels of a picture


def make_artifacts(
    root: Path,
    *,
    folds: tuple[str, ...] = ("fold0", "fold1", "fold2"),
    seeds: tuple[int, ...] = (0,),
    recipes: tuple[str, ...] = ("lerenet",),
    shots: tuple[int, ...] = (1,),
    queries: int = 8,
    classes: dict[str, list[str]] = CLASSES,
    lift: float = 0.5,
) -> Path:
    """Write ``root`` as the stages would, and the images beside it; ``lift`` moves recipes above matching."""
    rng = np.random.default_rng(3)
    _catalog(root, classes, rng)
    every = []
    _folds(root, classes)
    for name in ("validation", "validation_folds"):
        check = {"suite": "images", "sentence": "every image is listed once", "severity": "error"}
        result = {"success": True, "failed": 0, "warnings": 0, "expectations": [{**check, "success": True}]}
        _json(root / name / "result.json", result)
        (root / name / "docs").mkdir()
    for stage in ("catalog", "folds", "validation", "report"):
        _run(root / stage / "run.json", {"validation": "validate"}.get(stage, stage), "", 2.5)
    for fold in folds:
        episodes = _episodes(fold, classes[fold], queries, rng)
        counts = [_counts(episodes, name, shift, rng) for name, shift in FLOORS.items()]
        _evaluation(root / "floors" / f"{fold}-{BACKBONE}", pd.concat(counts), "floors")
        pairs = shown(episodes)[["episode"]].assign(cosine=lambda t: rng.uniform(-0.5, 1, len(t)))
        pairs.to_parquet(root / "floors" / f"{fold}-{BACKBONE}" / "likeness.parquet")
        for recipe, k, seed in product(recipes, shots, seeds):
            cell = f"{fold}-{BACKBONE}-{recipe}-{k}-{seed}"
            name = recipe if k == 1 else f"{recipe}-{k}shot"
            _evaluation(root / "evaluate" / cell, _counts(episodes, name, lift - 0.7, rng), "evaluate")
            _train(root / "train" / cell, cell, rng)
        _pretrain(root / "pretrain" / f"{fold}-{BACKBONE}")
        every.append(episodes)
    _images(root, pd.concat(every))
    _live(root)
    return root


def _live(root: Path) -> None:
    curve = {
        "1": (20.5, 10.0, 30.0),
        "10": (45.0, 33.0, 57.0),
        "5": (42.25, 31.0, 55.0),
        "all": (61.75, 50.0, 70.0),
    }
    called = {
        "pro": 66.5,
        "auroc": 97.25,
        "called": 88.0,
        "missed": {"small": 20.0, "medium": None, "large": 0.0},
    }
    one = {
        **called, "images": 34, "examples": 24, "good": 10, "reader": "blend_edges", "false_calls": 3.5,
        "false_calls_high": 17.0,
        "curve": {count: dict(zip(("iou", "low", "high"), values, strict=True)) for count, values in curve.items()},
    }  # fmt: skip
    uncalibrated = dict.fromkeys(("auroc", "called", "false_calls", "false_calls_high"))
    few = {**one, **uncalibrated, "good": 0, "missed": {"small": None}, "curve": {"1": one["curve"]["1"]}}
    _json(root / "inspect" / "summary.json", {"KSDD": one, "Steel_Pa": few})


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _run(path: Path, stage: str, key: str, seconds: float) -> None:
    run = {"mlflow_run_id": None, "stage": stage, "key": key, "started": "2025-01-01T10:00:00+00:00"}
    _json(path, {**run, "seconds": seconds, "tracked": False})


def _catalog(root: Path, classes: dict[str, list[str]], rng: np.random.Generator) -> None:
    rows = []
    for fold, names in enumerate(classes.values()):
        for place, cls in enumerate(names):
            for kind, folder, total in (("defect", "Images", 24), ("clean", "Nd", 6 * (place % 2))):
                for i in range(total):
                    share = float(10 ** rng.normal(-1.8 + 0.3 * place, 0.4)) if kind == "defect" else 0.0
                    row = {"image": f"{cls}/{folder}/{i:03}.jpg", "cls": cls, "fold": fold, "kind": kind}
                    row["mask"] = f"{cls}/GT/{i:03}.png" if kind == "defect" else ""
                    rows.append({**row, "group": f"{cls}/{i // 2}", "foreground": min(share, 0.6)})
    root.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(root / "catalog.parquet")


def _folds(root: Path, classes: dict[str, list[str]]) -> None:
    splits = {}
    for split in (*classes, "all"):
        known = [name for fold, names in classes.items() if fold != split for name in names]
        splits[split] = {"base": known[2:], "validation": known[:2], "novel": classes.get(split, [])}
    counts = {name: {"images": 24, "groups": 12} for names in classes.values() for name in names}
    _json(root / "folds" / "folds.json", {"splits": splits, "digest": DIGEST, "classes": counts})


def _episodes(fold: str, classes: list[str], queries: int, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for shots in (1, 5):
        for protocol, kind in (("groups", "defect"), ("groups", "clean"), ("paper", "defect")):
            for cls in classes:
                for i in range(queries):
                    size = 0 if kind == "clean" else int(10 ** rng.uniform(2, 4))
                    rows.append(
                        (
                            fold,
                            protocol,
                            kind,
                            shots,
                            cls,
                            f"{cls}/Images/{i:03}.jpg",
                            f"{cls}/{i // 2}",
                            f"{cls}/Images/{(i + 5) % 24:03}.jpg",
                            size,
                        )
                    )
    names = ["split", "protocol", "kind", "shots", "cls", "query", "query_group", "support", "size"]
    table = pd.DataFrame(rows, columns=names)
    table.insert(0, "episode", np.arange(len(table)) + 100_000 * int(fold[-1]))
    return table


def _counts(episodes: pd.DataFrame, model: str, shift: float, rng: np.random.Generator) -> pd.DataFrame:
    size = episodes["size"].to_numpy()
    skill = 1 / (1 + np.exp(-(shift + 0.4 * rng.normal(size=len(size)) + 0.3 * (episodes["shots"] == 5))))
    tp = np.rint(size * skill).astype("int64")
    fp = np.rint((size + 400) * (1 - skill)).astype("int64")
    if model == "all_foreground":
        tp, fp = size.astype("int64"), SIDE - size
    if model == "all_background":
        tp, fp = np.zeros_like(size), np.zeros_like(size)
    table = episodes.drop(columns=["size", "support"]).assign(
        model=model, tp=tp, fp=fp, fn=size - tp, tn=SIDE - size - fp
    )
    union = table["tp"] + table["fp"] + table["fn"]
    return table.assign(iou=(table["tp"] / union.where(union > 0)).fillna(1.0))


def _evaluation(folder: Path, counts: pd.DataFrame, stage: str) -> None:
    folder.mkdir(parents=True)
    counts.to_parquet(folder / "counts.parquet")
    keys = ["model", "split", "protocol", "shots"]
    _json(
        folder / "summary.json",
        [_summary(dict(zip(keys, key, strict=True)), rows) for key, rows in counts.groupby(keys)],
    )
    _run(folder / "run.json", stage, folder.name, 31.0)
    _json(folder / "about.json", {"episodes": DIGEST, "init": "imagenet", "image_size": 40})
    numbers = shown(counts)["episode"].tolist()
    save_masks(folder / "masks.npz", numbers, [np.random.default_rng(1).random((len(numbers), 40, 40)) > 0.7])


def _summary(row: dict[str, Any], counts: pd.DataFrame) -> dict[str, Any]:
    row = {name: value if isinstance(value, str) else int(value) for name, value in row.items()}
    defects, clean = counts[counts["kind"] == "defect"], counts[counts["kind"] == "clean"]
    classes, fb = class_iou(defects), float(mean_of_both(summed(defects)))
    score = sum(classes.values()) / len(classes)
    row |= {"miou": score, "miou_low": score - 3, "miou_high": score + 3, "classes": classes}
    row |= {"fb_iou": fb, "fb_iou_low": fb - 2, "fb_iou_high": fb + 2, "episodes": len(defects)}
    return row | {"clean": clean_scores(clean) if len(clean) else None}


def _train(folder: Path, cell: str, rng: np.random.Generator) -> None:
    epochs = np.arange(1, 9)
    loss = 0.9 * np.exp(-epochs / 4) + 0.05 * rng.random(8) + 0.2
    score = 38 + 6 * np.exp(-((epochs - 4) ** 2) / 6) + rng.random(8)
    folder.mkdir(parents=True)
    table = {
        "epoch": epochs,
        "step": epochs * 30,
        "loss": loss,
        "lr": 1e-3,
        "miou_validation": score,
        "seconds": 9.0,
    }
    pd.DataFrame(table).to_csv(folder / "curve.csv", index=False)
    _json(folder / "metrics.json", {"miou_validation": float(score.max()), "best_epoch": 4})
    _run(folder / "run.json", "train", cell, 74.0)


def _pretrain(folder: Path) -> None:
    _json(
        folder / "metrics.json",
        {"miou_validation_initial": 30.25, "miou_validation": 31.5, "chosen_epoch": 1},
    )
    _run(folder / "run.json", "pretrain", folder.name, 64.0)


def _images(root: Path, episodes: pd.DataFrame) -> None:
    """``episodes.parquet``, and a small picture and mask of every image that an episode names."""
    episodes.assign(support=[[name] for name in episodes["support"]]).to_parquet(
        root / "folds" / "episodes.parquet"
    )
    shade, mask = np.full((40, 40, 3), 120, np.uint8), np.zeros((40, 40), np.uint8)
    mask[10:20, 10:30] = 255
    for name in sorted({*episodes["query"], *episodes["support"]}):
        for path, pixels in ((name, shade), (name.replace("Images", "GT").replace("jpg", "png"), mask)):
            (root.parent / "data" / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root.parent / "data" / path)


def shown(episodes: pd.DataFrame) -> pd.DataFrame:
    """The episodes of which masks are kept."""
    wanted = (episodes["protocol"] == "groups") & (episodes["kind"] == "defect") & (episodes["shots"] == 1)
    return episodes[wanted].drop_duplicates("query")
