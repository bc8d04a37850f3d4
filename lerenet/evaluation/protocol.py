"""The evaluation protocol: frozen episodes, counts of every episode, scores with intervals.

Scores in points (0 to 100). A class's IoU is the sum of intersections over the sum of unions; mIoU
is the mean over the classes of the fold; intervals come from resampling the episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.nn import functional as F

from lerenet.data.catalog import load_catalog
from lerenet.device import pick_device
from lerenet.errors import ModelError
from lerenet.evaluation.metrics import class_iou, clean_scores
from lerenet.evaluation.resampling import interval
from lerenet.evaluation.score import predict_batch, score
from lerenet.features.store import FeatureStore
from lerenet.files import read_json
from lerenet.models.backbones.factory import Backbone
from lerenet.models.segmenter import Segmenter, masks_to_grid, weighted_mean
from lerenet.models.serialization import load_network
from lerenet.params import Params

BATCH = 16
GROUP = ["model", "split", "protocol", "shots"]


def score_heads(
    heads: Mapping[str, tuple[Segmenter, FeatureStore]],
    episodes: pd.DataFrame,
    precision: str,
    tick: Any = lambda done: None,
) -> pd.DataFrame:
    """Counts of every head, each with the store of its features, on the same episodes; column ``model``."""
    parts = []
    for name, (head, store) in heads.items():
        counts = score(head, store, episodes, pick_device(), precision, tick=tick)
        counts.insert(0, "model", name)
        parts.append(counts)
    return pd.concat(parts, ignore_index=True)


def summarise(counts: pd.DataFrame, params: Params) -> list[dict[str, Any]]:
    """One row for each model, split, protocol and number of shots."""
    rows = []
    for key, part in counts.groupby(GROUP, sort=False):
        defect, clean = part[part["kind"] == "defect"], part[part["kind"] == "clean"]
        resampling = params.evaluation
        scores = interval(defect, draws=resampling.draws, seed=params.seed, confidence=resampling.confidence)
        row = {
            **dict(zip(GROUP, key, strict=True)),
            **scores,
            "classes": class_iou(defect),
            "episodes": len(defect),
        }
        row["shots"] = int(str(row["shots"]))
        rows.append({**row, "clean": clean_scores(clean) if len(clean) else None})
    return rows


def shown_episodes(episodes: pd.DataFrame) -> pd.DataFrame:
    """The episodes that figures may show: of each query its first 1-shot defect episode of protocol "groups"."""
    wanted = (episodes["protocol"] == "groups") & (episodes["kind"] == "defect") & (episodes["shots"] == 1)
    return episodes[wanted].sort_values("episode").drop_duplicates("query").reset_index(drop=True)


def write_masks(
    head: Segmenter, store: FeatureStore, episodes: pd.DataFrame, precision: str, out: Path
) -> None:
    """Save what the head marks on `shown_episodes`, packed; `lerenet.evaluation.masks.read_masks` reads it."""
    from lerenet.evaluation.masks import save_masks

    shown = shown_episodes(episodes)
    parts = [shown.iloc[i : i + BATCH] for i in range(0, len(shown), BATCH)]
    marked = [predict_batch(head, store, rows, pick_device(), precision).cpu().numpy() > 0 for rows in parts]
    save_masks(out, shown["episode"].tolist(), marked)


def likeness(store: FeatureStore, episodes: pd.DataFrame) -> pd.DataFrame:
    """How alike support and query look on `shown_episodes`: columns ``episode`` and ``cosine`` (-1 to 1).

    The cosine of the defects' mean descriptors under the store's backbone, mean over its levels. The
    query's truth is used: this chooses what figures show and is no score.
    """
    shown, cosine = shown_episodes(episodes), []
    levels = store.backbone.levels
    for start in range(0, len(shown), BATCH):
        rows = shown.iloc[start : start + BATCH]
        support, query = (
            _defect_means(store, names, levels)
            for names in ([str(names[0]) for names in rows["support"]], list(rows["query"]))
        )
        cosines = [F.cosine_similarity(a, b, dim=1) for a, b in zip(support, query, strict=True)]
        cosine += torch.stack(cosines).mean(0).tolist()
    return pd.DataFrame({"episode": shown["episode"], "cosine": cosine})


def _defect_means(store: FeatureStore, names: list[str], levels: Sequence[int]) -> list[torch.Tensor]:
    """Mean descriptor (B, c) inside the masks, a level."""
    views = [(name, 0) for name in names]
    masks = store.masks(views)  # (B, H, W)
    means = []
    for level in store.features(views, levels):  # (B, c, h, w)
        shares = masks_to_grid(masks[:, None], level.shape[-1])  # (B, 1, h, w)
        means.append(weighted_mean(level.flatten(2), shares.flatten(1)))
    return means


def score_version(
    folder: Path, episodes_path: Path, catalog_path: Path, data: Path, params: Params
) -> pd.DataFrame:
    """Score the fold models of a registered version (``folder/folds/<split>/``) on frozen episodes.

    Each sees images of the size that it was trained with, whatever ``params`` says now.

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
        sized = params.model_copy(update={"image_size": loaded.image_size})
        store = FeatureStore(loaded.network.backbone.to(pick_device()), catalog, sized, data)
        store.ensure(sorted(set(test["cls"])), masked="masked" in loaded.network.head.reads)
        champion = {"champion": (loaded.network.head.to(pick_device()), store)}
        parts.append(score_heads(champion, test, params.precision))
    return pd.concat(parts, ignore_index=True)


def same_backbone(loaded: Backbone, cached: Backbone) -> bool:
    """Whether the saved backbone sees as the one that the cache was made with: every tensor, turns and stride."""
    kept = cached.state_dict()
    return (loaded.turns, loaded.stride) == (cached.turns, cached.stride) and all(
        name in kept and torch.equal(value.cpu(), kept[name].cpu())
        for name, value in loaded.state_dict().items()
    )
