"""Training, episodes a second: cached features against the backbone in the loop, frozen or trained.

Every contender gets its episodes, masks and pictures the same way: from arrays of decoded, already
augmented images in memory (the page cache). Decoding and augmentation are in none of them.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.project import DEVICE, Project
from benchmarks.results import Row, Section, ratio
from lerenet.cells import View
from lerenet.data.sampler import Episode, EpisodeSampler
from lerenet.features.store import FeatureStore
from lerenet.models import configure
from lerenet.models.backbones.factory import Backbone
from lerenet.models.batch import EpisodeBatch, Support
from lerenet.models.config import NetworkConfig
from lerenet.models.losses import create_loss
from lerenet.models.segmenter import Segmenter
from lerenet.progress import progress
from lerenet.training.trainer import Trainer, create_optimizer

WARM_UP = 2  # steps that are not counted
FIRST, KEPT = "ours, first pass", "ours, later passes"
PLAIN = "plain: backbone frozen"
TRAINED_BATCH, TRAINED_SCALE = 2, 0.01  # the authors' batch, and the backbone's share of the rate
TRAINED = {f"backbone trained, head {name}": configure(preset=name) for name in ("authors", "paper")}
NOTES = [
    "ours: Trainer with the precision and batch of params.yaml, features from the cache",
    "first pass: every pair of images is compared; later passes: what was compared is kept (train.episodes_per_query)",
    "plain: the same head, episodes, batch and optimiser; fp32; the backbone runs in every step",
    "backbone trained: fp32, batch 2, SGD, batch normalisation in train mode, 0.1 of the rate",
    "decoding and augmentation are in none: all read prepared views from memory; filling the cache is apart",
]


def measure(project: Project, rounds: int, steps: int) -> Section:
    """Each round runs every contender for ``steps`` steps, so that all see the same load."""
    began = time.perf_counter()
    backbone = project.new_backbone(project.model)
    store = project.store(backbone, project.split["base"], views=True, pictures=True)
    filled = time.perf_counter() - began
    contenders = _contenders(project, store, backbone)
    speeds: dict[str, list[float]] = {name: [] for name in (FIRST, KEPT, *contenders)}
    with progress("training", rounds * (1 + len(contenders))) as tick:
        for _ in range(rounds):
            for name, speed in zip((FIRST, KEPT), ours(project, store), strict=True):
                speeds[name].append(speed)
            tick(1, "ours")
            for name, run in contenders.items():
                speeds[name].append(run(steps))
                tick(1, name)
    rows = [Row(name, "episodes/s", tuple(values)) for name, values in speeds.items()]
    rows += [
        ratio(f"{mine}, over {name}", speeds[mine], speeds[name])
        for mine in (FIRST, KEPT)
        for name in contenders
    ]
    rows.append(Row("filling what the cache lacked", "s", (filled,), "once"))
    return Section(f"Training: {project.recipe}, {project.backbone}, {project.fold}", rows, NOTES)


def _contenders(
    project: Project, store: FeatureStore, backbone: Backbone
) -> dict[str, Callable[[int], float]]:
    settings = project.settings
    sampler = project.sampler(settings.batch, settings.clean_share)
    found: dict[str, Callable[[int], float]] = {
        PLAIN: Plain(project, store, sampler, project.model, backbone, trained=False).run,
    }
    two = project.sampler(TRAINED_BATCH, 0.0)
    for name, model in TRAINED.items():
        found[name] = Plain(project, store, two, model, project.new_backbone(model), trained=True).run
    return found


def ours(project: Project, store: FeatureStore) -> tuple[float, float]:
    """Episodes a second of `Trainer` in two passes over every base image, from ticks of its progress.

    One episode for each query makes the second pass what every later one of a long training is.
    """
    batch = project.settings.batch
    settings = project.settings.model_copy(update={"epochs": 2, "backbone_lr_scale": 0.0})
    sampler = project.sampler(batch, settings.clean_share)
    sampler.per_query = 1
    steps, warm = sampler.steps, min(WARM_UP, sampler.steps - 1)
    clock, began = Clock(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            head=project.new_head(project.model, store.backbone), store=store, sampler=sampler, settings=settings,
            validation=None, live=None, folder=Path(folder), device=DEVICE, seed=project.params.seed, stop_epoch=2,
            tick=clock.tick,
        )  # fmt: skip
        trainer.run()
    clock.at.setdefault(0, began)
    first, kept = (
        batch * (steps - warm) / (clock.at[end] - clock.at[end - steps + warm]) for end in (steps, 2 * steps)
    )
    return first, kept


class Clock:
    """When each step was done; `tick` takes the place of a progress bar."""

    def __init__(self) -> None:
        self.done, self.at = 0, dict[int, float]()

    def tick(self, done: int = 1, note: str | None = None) -> None:
        """Note the time at which ``done`` more steps are over."""
        self.done += done
        self.at[self.done] = time.perf_counter()


@dataclass
class Plain:
    """The loop that one writes first: encode support and query, compare, step; full precision."""

    project: Project
    store: FeatureStore
    sampler: EpisodeSampler
    model: NetworkConfig
    start: Backbone
    trained: bool

    def run(self, steps: int) -> float:
        """Episodes a second, after a few steps that are not counted."""
        head = self.project.new_head(self.model, self.start).train()
        backbone = copy.deepcopy(self.start).cut(head.levels).train(self.trained)
        optimizer = self._optimizer(head, backbone)
        loss = create_loss(self.project.settings.loss)
        began = 0.0
        for step in range(WARM_UP + steps):
            if step == WARM_UP:
                began = time.perf_counter()
            episodes = self.sampler.batch_at(step // self.sampler.steps, step % self.sampler.steps)
            value = loss(
                self._logits(head, backbone, episodes), self.store.masks([e.query for e in episodes])
            )
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
        return self.sampler.batch * steps / (time.perf_counter() - began)

    def _optimizer(self, head: Segmenter, backbone: Backbone) -> torch.optim.Optimizer:
        settings = self.project.settings
        groups: list[dict[str, Any]] = [{"params": list(head.parameters())}]
        if not self.trained:
            return create_optimizer(groups, settings)
        groups.append({"params": list(backbone.parameters()), "lr": TRAINED_SCALE * settings.lr})
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)

    def _logits(self, head: Segmenter, backbone: Backbone, episodes: list[Episode]) -> Tensor:
        supports = [shot for episode in episodes for shot in episode.support]
        shape = (len(episodes), len(episodes[0].support))
        with torch.set_grad_enabled(self.trained):
            support = [level.unflatten(0, shape) for level in self._encode(backbone, supports)]
            query = self._encode(backbone, [episode.query for episode in episodes])
        masks = self.store.masks(supports).unflatten(0, shape)
        logits: Tensor = head(EpisodeBatch(Support(support, masks), query))
        return logits

    def _encode(self, backbone: Backbone, shots: list[View]) -> list[Tensor]:
        found: list[Tensor] = backbone(self.store.pictures(shots))
        return found
