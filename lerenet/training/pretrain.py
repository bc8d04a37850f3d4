"""Backbone pretraining: supervised segmentation of a split's base classes, clean images included.

The weights that leave this stage are those whose features match best on the frozen validation episodes,
whose classes this training never sees. ImageNet's weights stay unless an epoch is surely better there:
the paired interval of the difference lies above zero in each of these classes. A split that holds no class
out has no such episodes, and leaves the last epoch's weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lerenet.data.augment import Pixels, load_views
from lerenet.data.folds import Split, trained_on
from lerenet.data.scaling import IGNORED
from lerenet.device import autocast, pick_device, seed_step
from lerenet.errors import TrainingError
from lerenet.evaluation.metrics import miou
from lerenet.evaluation.resampling import surely_better
from lerenet.evaluation.score import score
from lerenet.features.live import LiveSource
from lerenet.features.store import to_batch
from lerenet.files import atomic_path, write_json
from lerenet.models import configure, create_model
from lerenet.models.backbones.factory import Backbone, create_backbone
from lerenet.params import Params
from lerenet.progress import progress
from lerenet.seeds import generator


class SupervisedSegmentation(nn.Module):
    """Backbone, its levels brought to the finest grid, and one 1 x 1 convolution to the classes."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(sum(backbone.channels), classes + 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> logits (N, classes + 1, h, w) on the backbone's stride-8 grid or finer."""
        levels = self.backbone(images)
        side = max(8, -(-images.shape[-1] // 8))
        grown = [
            F.adaptive_avg_pool2d(f, side)
            if f.shape[-1] > side
            else F.interpolate(f, size=(side, side), mode="bilinear", align_corners=False)
            for f in levels
        ]
        logits: Tensor = self.head(torch.cat(grown, dim=1))
        return logits


def matching_counts(
    backbone: Backbone, source: LiveSource, episodes: pd.DataFrame, params: Params
) -> pd.DataFrame:
    """Counts of training-free matching on the validation episodes, with the backbone as it is."""
    source.refresh(backbone)
    channels = dict(zip(backbone.levels, backbone.channels, strict=True))
    head = create_model(configure("matching"), channels, params.image_size)
    return score(head, source, episodes, torch.device("cpu"))


def _train_epoch(
    model: SupervisedSegmentation,
    samples: list[list[tuple[Pixels, Tensor]]],
    optimizer: torch.optim.Optimizer,
    epoch: int,
    params: Params,
    tick: Callable[..., None],
) -> float:
    device = next(model.parameters()).device
    order = generator(params.seed, "pretrain", epoch).permutation(len(samples))
    batch, total, bad = params.pretrain.batch, 0.0, 0
    steps = math.ceil(len(samples) / batch)
    model.train()
    if params.init != "random":
        model.backbone.eval()  # small batches: keep the normalisation statistics of the initial weights
    for step in range(steps):
        seed_step(params.seed, epoch, step)
        chosen = [samples[i][epoch - 1] for i in order[step * batch : (step + 1) * batch]]
        images = to_batch([picture for picture, _ in chosen], device)
        labels = torch.stack([label for _, label in chosen]).to(device)
        with autocast(device, params.precision):
            logits = model(images)
        logits = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
        loss = F.cross_entropy(logits, labels, ignore_index=IGNORED)
        if not torch.isfinite(loss):
            bad += 1
            if bad >= params.pretrain.max_bad_steps:
                raise TrainingError(
                    f"pretraining: the loss is {loss.item()} in epoch {epoch}, step {step}",
                    "lower pretrain.lr in params.yaml",
                )
            continue
        bad = 0
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.item()
        tick(len(chosen), f"loss {loss.item():.3f}")
    return total / steps


def _samples(
    data: Path, rows: pd.DataFrame, classes: list[str], params: Params
) -> list[list[tuple[Pixels, Tensor]]]:
    """For each image one augmented view an epoch, with its label map: 0 background, k + 1 the k-th class, `IGNORED`."""
    views = range(1, params.pretrain.epochs + 1)
    samples = []
    for _, row in rows.iterrows():
        label = classes.index(row["cls"]) + 1
        loaded = load_views(data, row, params.image_size, params.views, params.seed, views)
        both = ((picture, torch.from_numpy(marks).long()) for picture, marks in loaded)
        samples.append([(picture, torch.where(marks > 0, label, marks)) for picture, marks in both])
    return samples


def pretrain(
    catalog: pd.DataFrame,
    split: Split,
    episodes: pd.DataFrame,
    name: str,
    data: Path,
    params: Params,
    out: Path,
) -> dict[str, Any]:
    """Train backbone ``name`` on the base classes of ``split``; write weights, curve and metrics to ``out``.

    Args:
        episodes: the split's frozen validation episodes (1 shot, defect queries); may be none.

    Returns:
        what metrics.json holds: validation mIoU of matching before and after, the epoch chosen.
    """
    device = pick_device()
    seed_step(params.seed, 0, 0)
    backbone = create_backbone(name, params.init, params.levels).to(device)
    held = catalog[catalog["cls"].isin(split["validation"])]
    source = LiveSource(data, held, params) if len(episodes) else None
    before = None if source is None else matching_counts(backbone, source, episodes, params)
    best = initial = None if before is None else miou(before)
    curve: list[dict[str, float | None]] = [{"epoch": 0, "loss": None, "miou_validation": initial}]
    chosen, state = 0, _copy(backbone)
    if params.pretrain.epochs:
        rows = trained_on(catalog, split)
        base = rows[rows["cls"].isin(split["base"])].sort_values("image")
        samples = _samples(data, base, sorted(split["base"]), params)
        model = SupervisedSegmentation(backbone, len(split["base"])).to(device)
        groups = [
            {"params": model.head.parameters(), "lr": params.pretrain.lr},
            {"params": backbone.parameters(), "lr": params.pretrain.lr / 10},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
        with progress(f"pretrain {name}", len(samples) * params.pretrain.epochs) as tick:
            for epoch in range(1, params.pretrain.epochs + 1):
                loss = _train_epoch(model, samples, optimizer, epoch, params, tick)
                counts = None if source is None else matching_counts(backbone, source, episodes, params)
                value = None if counts is None else miou(counts)
                curve.append({"epoch": epoch, "loss": loss, "miou_validation": value})
                if _elected(before, counts, best, params.init):
                    best, chosen, state = value, epoch, _copy(backbone)
    metrics = {"miou_validation_initial": initial, "miou_validation": best, "chosen_epoch": chosen}
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "backbone.safetensors") as temporary:
        save_file(state, temporary)
    with atomic_path(out / "curve.csv") as temporary:
        pd.DataFrame(curve).to_csv(temporary, index=False)
    write_json(out / "metrics.json", metrics)
    return metrics


def _elected(before: pd.DataFrame | None, counts: pd.DataFrame | None, best: float | None, init: str) -> bool:
    """Whether an epoch's weights are better than the best so far; without episodes the last ones are taken."""
    if before is None or counts is None or best is None:
        return True
    return miou(counts) > best and (init == "random" or surely_better(before, counts))


def _copy(backbone: Backbone) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone().contiguous() for name, value in backbone.state_dict().items()}
