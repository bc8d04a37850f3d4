"""Run a head over frozen episodes and count the pixels of each outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor

from lerenet.cells import View
from lerenet.device import autocast
from lerenet.errors import TrainingError
from lerenet.evaluation.metrics import COUNTS
from lerenet.models.batch import FeatureSource, LabelledSource, assemble
from lerenet.models.refine import refine
from lerenet.models.segmenter import Segmenter, State

KEPT = ["split", "protocol", "kind", "shots", "episode", "cls", "query", "query_group"]


Relations = Callable[[Sequence[Sequence[View]], Sequence[View]], State]  # of supports and queries


def confusion(prediction: Tensor, truth: Tensor) -> Tensor:
    """Pixels of each outcome, but for those that count as nothing.

    Args:
        prediction: (B, H, W) bool.
        truth: (B, H, W), 1 on the defect, 0 beside it, negative where a pixel counts as nothing.

    Returns:
        (B, 4) int64: true positives, false positives, false negatives, true negatives.
    """
    defect, rest = truth > 0, truth == 0
    parts = (prediction & defect, prediction & rest, ~prediction & defect, ~prediction & rest)
    sums = [part.flatten(1).sum(1) for part in parts]
    return torch.stack(sums, dim=1)


@torch.inference_mode()
def predict_batch(
    head: Segmenter,
    source: FeatureSource,
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
        related = relations(supports, queries)
        with autocast(device, precision):
            logits = head.answer(related)
    else:
        batch = assemble(source, supports, queries, head, device)
        with autocast(device, precision):
            logits = head(batch)
    if head.refined:
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
    source: LabelledSource,
    episodes: pd.DataFrame,
    device: torch.device,
    precision: str = "fp32",
    batch: int = 16,
    tick: Callable[[int], None] = lambda done: None,
    relations: Relations | None = None,
) -> pd.DataFrame:
    """Counts of every episode: its identity, tp, fp, fn, tn (pixels) and iou (0..1; 1 when both are empty).

    With ``relations`` (a `lerenet.features.relations.RelationCache`) the head only reasons over them.
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
        truth = source.truth([(str(name), 0) for name in rows["query"]]).to(device)
        part = rows[KEPT].reset_index(drop=True)
        part[COUNTS] = confusion(logits > 0, truth).cpu().numpy()
        parts.append(part)
        tick(len(rows))
    counts = pd.concat(parts, ignore_index=True).sort_values("episode", ignore_index=True)
    union = counts["tp"] + counts["fp"] + counts["fn"]
    counts["iou"] = (counts["tp"] / union.where(union > 0)).fillna(1.0)
    return counts
