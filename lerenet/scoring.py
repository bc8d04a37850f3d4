"""Run a head over frozen episodes and count the pixels of each outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pandas as pd
import torch
from torch import Tensor

from lerenet.bootstrap import COUNTS
from lerenet.data.episodes import Shot
from lerenet.device import autocast
from lerenet.errors import TrainingError
from lerenet.metrics import confusion
from lerenet.models.base import Extra, Segmenter, State, without_defect
from lerenet.models.tones import refine

KEPT = ["split", "protocol", "kind", "shots", "episode", "cls", "query", "query_group"]


Relations = Callable[[Sequence[Sequence[Shot]], Sequence[Shot]], State]  # of supports and queries


class Source(Protocol):
    """Where features and masks come from: the cache, or the memory of a backbone in training."""

    def features(self, shots: Sequence[Shot], levels: Sequence[int], masked: bool = False) -> list[Tensor]:
        """(n, c, h, w) for each level; ``masked``: of the images with all but the defect blacked out."""

    def normal(self, shot: Shot) -> Shot | None:
        """A defect-free image of the same class, if there is one."""

    def masks(self, shots: Sequence[Shot]) -> Tensor:
        """(n, H, W) in {0, 1}."""

    def pictures(self, shots: Sequence[Shot]) -> Tensor:
        """(n, 3, H, W) in [0, 1]."""


def gather(
    source: Source,
    supports: Sequence[Sequence[Shot]],
    queries: Sequence[Shot],
    levels: Sequence[int],
    device: torch.device,
    extras: Sequence[str] = (),
) -> tuple[list[Tensor], Tensor, list[Tensor], Extra]:
    """Tensors of a batch of episodes of equal shots K.

    Returns:
        support features (B, K, c, h, w) a level, support masks (B, K, H, W), query features (B, c, h, w)
        a level, and what ``extras`` asks for (see `lerenet.models.base.Segmenter.encode`).
    """
    size, shots = len(supports), len(supports[0])
    flat = [shot for support in supports for shot in support]
    features = [level.to(device).unflatten(0, (size, shots)) for level in source.features(flat, levels)]
    masks = source.masks(flat).to(device).unflatten(0, (size, shots))
    extra: Extra = {}
    if "masked" in extras:
        alone = source.features(flat, levels, masked=True)
        extra["masked"] = [level.to(device).unflatten(0, (size, shots)) for level in alone]
    if "normal" in extras:
        extra["normal"] = _normal(source, queries, levels, features, masks)
    return features, masks, [level.to(device) for level in source.features(queries, levels)], extra


def _normal(
    source: Source, queries: Sequence[Shot], levels: Sequence[int], support: list[Tensor], masks: Tensor
) -> list[Tensor]:
    """Defect-free features (B, c, h, w) a level; where a class has no such image, the support's without the defect."""
    found = without_defect(support, masks)
    known = [(i, shot) for i, query in enumerate(queries) if (shot := source.normal(query)) is not None]
    if known:
        at = [i for i, _ in known]
        for level, value in zip(found, source.features([shot for _, shot in known], levels), strict=True):
            level[at] = value.to(level.device, level.dtype)
    return found


@torch.inference_mode()
def predict_batch(
    head: Segmenter,
    source: Source,
    rows: pd.DataFrame,
    device: torch.device,
    precision: str,
    relations: Relations | None = None,
) -> Tensor:
    """Logits (B, H, W) of episodes with the same number of shots."""
    supports = [[(str(name), 0) for name in support] for support in rows["support"]]
    queries = [(str(name), 0) for name in rows["query"]]
    logits: Tensor
    if relations is not None:
        known = relations(supports, queries)
        with autocast(device, precision):
            logits = head.answer(known)
    else:
        support, masks, query, extra = gather(source, supports, queries, head.levels, device, head.extras)
        with autocast(device, precision):
            logits = head(support, masks, query, extra)
    if head.outlined:
        return refine(logits.float(), source.pictures(queries).to(device))
    return logits.float()


def batches(episodes: pd.DataFrame, size: int) -> Iterator[pd.DataFrame]:
    """Slices of at most ``size`` episodes, each of one number of shots."""
    for shots, part in episodes.groupby("shots"):
        step = max(1, size // int(str(shots)))
        for start in range(0, len(part), step):
            yield part.iloc[start : start + step]


def score(
    head: Segmenter,
    source: Source,
    episodes: pd.DataFrame,
    device: torch.device,
    precision: str = "fp32",
    batch: int = 16,
    tick: Callable[[int], None] = lambda done: None,
    relations: Relations | None = None,
) -> pd.DataFrame:
    """Counts of every episode: its identity, tp, fp, fn, tn (pixels) and iou (0..1; 1 when both are empty).

    With ``relations`` (a `lerenet.relation_cache.RelationCache`) the head only reasons over them.
    """
    head.eval()
    parts = []
    for rows in batches(episodes, batch):
        logits = predict_batch(head, source, rows, device, precision, relations)
        if not bool(torch.isfinite(logits).all()):
            raise TrainingError(
                f"the model gives logits that are not finite (query {rows['query'].iloc[0]})",
                "train it again with a lower rate; nothing is scored",
            )
        truth = source.masks([(str(name), 0) for name in rows["query"]]).to(device) > 0.5
        part = rows[KEPT].reset_index(drop=True)
        part[COUNTS] = confusion(logits > 0, truth).cpu().numpy()
        parts.append(part)
        tick(len(rows))
    counts = pd.concat(parts, ignore_index=True).sort_values("episode", ignore_index=True)
    union = counts["tp"] + counts["fp"] + counts["fn"]
    counts["iou"] = (counts["tp"] / union.where(union > 0)).fillna(1.0)
    return counts
