"""The evaluation protocol: frozen episodes, counts of every episode, scores with intervals.

Scores in points (0 to 100). A class's IoU is the sum of intersections over the sum of unions; mIoU
is the mean over the classes of the fold; intervals come from resampling the episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lerenet.bootstrap import interval
from lerenet.data.catalog import load_catalog
from lerenet.data.views import load_plain
from lerenet.device import pick_device
from lerenet.errors import ModelError
from lerenet.features import FeatureStore
from lerenet.files import atomic_dir, read_json
from lerenet.loading import load_network
from lerenet.metrics import class_iou, clean_scores
from lerenet.models.base import Segmenter
from lerenet.params import Params
from lerenet.scoring import predict_batch, score

GROUP = ["model", "split", "protocol", "shots"]


def score_heads(
    heads: Mapping[str, Segmenter], store: FeatureStore, episodes: pd.DataFrame, tick: Any = lambda done: None
) -> pd.DataFrame:
    """Counts of every head on the same episodes, with a column ``model``."""
    parts = []
    for name, head in heads.items():
        counts = score(head, store, episodes, pick_device(), tick=tick)
        counts.insert(0, "model", name)
        parts.append(counts)
    return pd.concat(parts, ignore_index=True)


def summarise(counts: pd.DataFrame, params: Params) -> list[dict[str, Any]]:
    """One row for each model, split, protocol and number of shots."""
    rows = []
    for key, part in counts.groupby(GROUP, sort=False):
        defect, clean = part[part["kind"] == "defect"], part[part["kind"] == "clean"]
        found = interval(defect, draws=params.gate.draws, seed=params.seed, confidence=params.gate.confidence)
        row = {
            **dict(zip(GROUP, key, strict=True)),
            **found,
            "classes": class_iou(defect),
            "episodes": len(defect),
        }
        row["shots"] = int(str(row["shots"]))
        rows.append({**row, "clean": clean_scores(clean) if len(clean) else None})
    return rows


def write_panels(
    head: Segmenter, store: FeatureStore, counts: pd.DataFrame, episodes: pd.DataFrame, data: Path, out: Path
) -> None:
    """Draw the best, median and worst 1-shot episode of each class (`lerenet.panels.choose_episodes`)."""
    from lerenet.data.images import write_png
    from lerenet.panels import choose_episodes, draw_panel

    known = store.catalog.set_index("image", drop=False)
    by_number = episodes.set_index("episode", drop=False)
    with atomic_dir(out) as temporary:
        for pick in choose_episodes(counts).to_dict("records"):
            episode = by_number.loc[[int(pick["episode"])]]
            logits = predict_batch(head, store, episode, pick_device(), "fp32")
            support, mask = load_plain(
                data, known.loc[episode["support"].iloc[0][0]], store.params.image_size
            )
            query, truth = load_plain(data, known.loc[pick["query"]], store.params.image_size)
            name = f"{pick['cls']}-{pick['rank']}-{pick['episode']}"
            title = f"{pick['cls']}, {pick['rank']}, episode {pick['episode']}"
            panel = draw_panel(support, mask, query, truth, (logits[0] > 0).cpu().numpy(), title)
            write_png(temporary / f"{name}.png", panel)


def score_version(
    folder: Path, episodes_path: Path, catalog_path: Path, data: Path, params: Params
) -> pd.DataFrame:
    """Score the fold models of a registered version (``folder/folds/<split>/``) on frozen episodes.

    Raises:
        ModelError: when a fold's model was trained on a class that its episodes now test.
    """
    episodes, catalog = pd.read_parquet(episodes_path), load_catalog(catalog_path)
    parts = []
    for path in sorted((folder / "folds").iterdir()):
        test = episodes[(episodes["split"] == path.name) & (episodes["role"] == "test")].reset_index(
            drop=True
        )
        seen = set(read_json(path / "config.json")["classes_seen"]) & set(test["cls"])
        if seen:
            raise ModelError(
                f"{path}: was trained on {', '.join(sorted(seen))}, which {path.name} now tests",
                "the champion can't be compared; train it again on these folds, or promote with --force",
            )
        loaded = load_network(path)
        store = FeatureStore(loaded.network.backbone.to(pick_device()), catalog, params, data)
        store.ensure(sorted(set(test["cls"])))
        parts.append(score_heads({"champion": loaded.network.head.to(pick_device())}, store, test))
    return pd.concat(parts, ignore_index=True)


def same_backbone(loaded: torch.nn.Module, cached: torch.nn.Module) -> bool:
    """Whether every tensor of the saved backbone equals the one that the cache was made with."""
    known = cached.state_dict()
    return all(
        name in known and torch.equal(value.cpu(), known[name].cpu())
        for name, value in loaded.state_dict().items()
    )
