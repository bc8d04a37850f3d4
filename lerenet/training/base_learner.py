"""Training of a base learner: which base class each place shows, on cached frozen features.

BAM and HDMNet suppress what a network that knows the base classes recognises. That network is trained
before the episodes, on the same images, with the masks of all base classes; then it is frozen.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from lerenet.data.sampler import EpisodeSampler
from lerenet.data.scaling import IGNORED
from lerenet.device import autocast, seed_step
from lerenet.errors import TrainingError
from lerenet.features.store import FeatureStore
from lerenet.seeds import generator

EPOCHS = 8  # passes over the base images, a random view of each
BATCH = 8
RATE = 1e-3  # of AdamW


def train_base(
    base: nn.Module,
    level: int,
    store: FeatureStore,
    sampler: EpisodeSampler,
    weight_decay: float,
    seed: int,
    device: torch.device,
) -> None:
    """Train ``base`` (level (B, c, h, w) -> logits (B, slots, h, w)) and freeze it again.

    Slot 0 is the background, slot 1 + i the i-th of the sampler's classes; clean images are all background.

    Raises:
        TrainingError: the loss is not finite.
    """
    slots = {str(cls): 1 + i for i, cls in enumerate(sampler.classes)}
    names = sampler.images
    base.requires_grad_(True)
    base.train()
    optimizer = torch.optim.AdamW(base.parameters(), lr=RATE, weight_decay=weight_decay)
    for epoch in range(EPOCHS):
        rng = generator(seed, "base learner", epoch)
        order = rng.permutation(len(names))
        for step, start in enumerate(range(0, len(names), BATCH)):
            seed_step(seed, epoch, step)
            views = rng.integers(sampler.views + 1, size=BATCH)
            shots = [
                (names[i], int(view)) for i, view in zip(order[start : start + BATCH], views, strict=False)
            ]
            features = store.features(shots, [level])[0].to(device)
            slot = torch.tensor([slots[sampler.class_of(name)] for name, _ in shots])
            marks = store.truth(shots).long()
            labels = torch.where(marks > 0, slot[:, None, None], marks).to(device)
            with autocast(device, store.params.precision):
                logits = base(features)
            size = labels.shape[-2:]
            grown = F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
            loss = F.cross_entropy(grown, labels, ignore_index=IGNORED)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"base learner: the loss is {loss.item()} in epoch {epoch + 1}", "lower train.lr"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    base.requires_grad_(False)
    base.eval()
