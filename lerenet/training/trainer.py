"""Episodic training of one cell: (seed, epoch, step) -> episodes -> loss -> weights.

Frozen backbone: features come from the cache, only the head is trained. With
``backbone_lr_scale`` > 0 the backbone is in the loop and trained at that share of the rate.
The weights that leave a fold are those of the best epoch on its validation episodes. A head that
segments before it is trained keeps its initial weights unless an epoch is surely better than they are
(``elect``): the paired interval of the difference lies above zero in each held-out class. The shipping split trains
on every class and stops at the length its folds found.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lerenet.data.sampler import Episode, EpisodeSampler
from lerenet.device import autocast, in_bf16, seed_step
from lerenet.errors import TrainingError
from lerenet.evaluation.metrics import COUNTS, miou, scores
from lerenet.evaluation.resampling import surely_better
from lerenet.evaluation.score import score
from lerenet.features.live import LiveSource, Passing
from lerenet.features.relations import RelationCache
from lerenet.features.store import FeatureStore
from lerenet.files import require_space
from lerenet.models.batch import LabelledSource, TrainingBatch, assemble
from lerenet.models.losses import create_loss
from lerenet.models.segmenter import Segmenter
from lerenet.params import TrainSettings
from lerenet.training import checkpoint
from lerenet.training.base_learner import train_base

CHECKPOINT_SECONDS = 60.0
CurveRow = dict[str, float | int | None]


@dataclass
class Trainer:
    """One training, resumable at any step.

    Args:
        head: the network; its backbone is ``store.backbone``.
        store: features (frozen backbone) or pictures (trained backbone) of every image an episode names.
        validation: frozen validation episodes, or None: the last weights are kept.
        live: the validation images, and those of ``watched``, when the backbone is trained and its features change.
        stop_epoch: stop after this many of ``settings.epochs`` (the decay still spans them all).
        model: the network's settings; a checkpoint of others is not taken up.
        watched: test episodes by protocol, scored each ``settings.watch`` epochs; nothing is chosen by them.
        on_epoch: called with each epoch's row of the curve.
    """

    head: Segmenter
    store: FeatureStore
    sampler: EpisodeSampler
    settings: TrainSettings
    validation: pd.DataFrame | None
    live: LiveSource | None
    folder: Path
    device: torch.device
    seed: int
    stop_epoch: int
    model: Mapping[str, Any] = field(default_factory=dict)
    watched: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    on_epoch: Callable[[CurveRow], None] = lambda row: None
    tick: Callable[..., None] = lambda done=1, note=None: None
    history: list[CurveRow] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    initial: Tensor | None = None  # counts of the initial weights, (validation episodes, 4)

    def __post_init__(self) -> None:
        self.precision = self.store.params.precision
        self.trained = self.settings.backbone_lr_scale > 0
        self.loss = create_loss(self.settings.loss)
        self.optimizer = self._optimizer()
        self.relations: RelationCache | None = None
        if self.head.relational and not self.trained:
            self.relations = RelationCache(self.head, self.store, self.device, self.precision)
        self.steps = self.sampler.steps
        self.total = self.settings.epochs * self.steps
        self.saved_at = time.monotonic()
        self.bad = 0

    # -- the loop, in reading order --------------------------------------------------------------

    def run(self) -> list[CurveRow]:
        """Train to the end, from the last checkpoint if there is one; return the curve.

        Raises:
            TrainingError: after ``max_bad_steps`` losses in a row that are not finite.
        """
        size = sum(value.numel() * value.element_size() for value in self.modules.state_dict().values())
        require_space(self.folder, 8 * size + 2**20)
        epoch, step, running = self._resume()
        base = self.head.base_learner
        if base is not None and not self.history:
            level, decay = self.head.levels[-1], self.settings.weight_decay
            train_base(base, level, self.store, self.sampler, decay, self.seed, self.device)
        if not self.history:
            self._record(0, None, 0.0)  # the initial weights stand for election, too
        self.tick(epoch * self.steps + step)
        while epoch < self.stop_epoch:
            started = time.monotonic()
            while step < self.steps:
                running += self._step(epoch, step)
                step += 1
                self.tick(1, f"epoch {epoch + 1}/{self.stop_epoch}, loss {running / step:.4f}")
                if time.monotonic() - self.saved_at > CHECKPOINT_SECONDS and step < self.steps:
                    self._save(epoch, step, running)
            self._record(epoch + 1, running / self.steps, time.monotonic() - started)
            epoch, step, running = epoch + 1, 0, 0.0
            self._save(epoch, step, running)
        if self.validation is None:
            self.best = {"epoch": self.stop_epoch, "miou": None, "weights": self._weights()}
        self.modules.load_state_dict(self.best["weights"])
        return self.history

    def _step(self, epoch: int, step: int) -> float:
        seed_step(self.seed, epoch, step)  # dropout, too, depends on nothing earlier
        lr = self._set_rate(epoch * self.steps + step)
        episodes = self.sampler.batch_at(epoch, step)
        self.modules.train()
        with autocast(self.device, self.precision):
            loss = self.forward(episodes)
        value = loss.item()
        if not torch.isfinite(loss):
            self._refuse(value, epoch, step, episodes, lr)
            return 0.0
        self.bad = 0
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return value

    def forward(self, episodes: list[Episode]) -> Tensor:
        """The loss of a batch of training episodes."""
        supports, queries = [episode.support for episode in episodes], [episode.query for episode in episodes]
        truth = self.store.truth(queries).to(self.device)
        if self.relations is not None:
            logits = self.head.answer(self.relations(supports, queries))
            return self.loss(logits.float(), truth)
        source = Passing(self.store, self.device) if self.trained else self.store
        batch = assemble(source, supports, queries, self.head, self.device)
        slots = [1 + self.sampler.classes.index(episode.cls) for episode in episodes]
        slot = torch.tensor(slots, device=self.device)
        return self.head.learn(TrainingBatch(batch.support, batch.query, truth, slot), self.loss)

    def _record(self, epoch: int, loss: float | None, seconds: float) -> None:
        """Score ``epoch`` finished epochs on the validation episodes; keep the weights if they are elected."""
        value, watched = None, self.settings.watch and epoch % self.settings.watch == 0
        if self.validation is not None or watched:
            source = self._source(bool(watched))
        if self.validation is not None:
            counts = self._counts(source, self.validation)
            value = miou(counts)
            if value > self.best.get("miou", -1.0) and self._beats_initial(counts):
                self.best = {"epoch": epoch, "miou": value, "weights": self._weights()}
        row: CurveRow = {"epoch": epoch, "step": epoch * self.steps, "loss": loss, "miou_validation": value}
        row |= {"lr": self.optimizer.param_groups[0]["lr"], "seconds": seconds}
        for protocol, episodes in self.watched.items() if watched else ():
            found = scores(self._counts(source, episodes))
            row |= {f"{name}_{protocol}": points for name, points in found.items()}
        self.history.append(row)
        self.on_epoch(row)

    def _counts(self, source: LabelledSource, episodes: pd.DataFrame) -> pd.DataFrame:
        return score(self.head, source, episodes, self.device, self.precision, relations=self.relations)

    def _beats_initial(self, counts: pd.DataFrame) -> bool:
        if not self.head.works_untrained or self.settings.elect == "best":
            return True
        if self.initial is None:
            self.initial = torch.tensor(counts[COUNTS].to_numpy("float64"))
            return True
        before = counts.copy()
        before[COUNTS] = self.initial.numpy()  # both by episode
        return surely_better(before, counts)

    def _source(self, watched: bool) -> LabelledSource:
        """Where features of the episodes to score come from; those of watched ones only where they are scored."""
        if self.live is None:
            return self.store
        held = None if watched or self.validation is None else set(self.validation["cls"])
        self.live.refresh(self.store.backbone, "masked" in self.head.reads, held)
        return self.live

    # -- optimiser and schedule --------------------------------------------------------------------

    @property
    def modules(self) -> torch.nn.ModuleDict:
        """What is trained and saved: the head, and the backbone when it is in the loop."""
        parts: dict[str, torch.nn.Module] = {"head": self.head}
        if self.trained:
            parts["backbone"] = self.store.backbone
        return torch.nn.ModuleDict(parts)

    def _optimizer(self) -> torch.optim.Optimizer:
        groups = [{"params": list(self.head.parameters()), "scale": 1.0}]
        if self.trained:
            groups.append(
                {"params": list(self.store.backbone.parameters()), "scale": self.settings.backbone_lr_scale}
            )
        return create_optimizer(groups, self.settings)

    def _set_rate(self, step: int) -> float:
        """Polynomial decay: lr (1 - step / total) ^ power, times each group's own scale."""
        lr: float = self.settings.lr * (1 - step / self.total) ** self.settings.poly_power
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        return lr

    def _refuse(self, value: float, epoch: int, step: int, episodes: list[Episode], lr: float) -> None:
        self.bad += 1
        names = sorted({name for e in episodes for name, _ in (e.query, *e.support)})
        record = {"loss": repr(value), "epoch": epoch, "step": step, "lr": lr, "images": names}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "bad_steps.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(record) + "\n")
        if self.bad >= self.settings.max_bad_steps:
            raise TrainingError(
                f"the loss is {value} for {self.bad} steps in a row (epoch {epoch + 1}, step {step}); "
                f"last batch: {', '.join(names[:6])}",
                f"look at these images, or lower train.lr; all batches are in {self.folder / 'bad_steps.jsonl'}",
            )

    # -- state -------------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.modules.state_dict().items()}

    @property
    def fingerprint(self) -> str:
        """Digest of everything a checkpoint must agree with to be taken up again."""
        key = {
            "settings": self.settings.model_dump(),
            "model": self.model,
            "weights": self.store.weights,
            "params": self.store.params.model_dump(include={"seed", "image_size", "views"}),
            "classes": list(self.sampler.classes),
            "images": self.sampler.images,
            "normals": sorted(self.store.normals["image"]) if "normal" in self.head.reads else [],
            "units": [str(self.store.unit(cls, False).name) for cls in self.sampler.classes],
            "shots": self.sampler.shots,
            "stop": self.stop_epoch,
            "seed": self.seed,
            "election": "each held-out class",
            "refined": "edges, tones" if self.head.refined else "",
            "bf16": in_bf16(self.device, self.precision),
            "head": {name: list(value.shape) for name, value in self.head.state_dict().items()},
            "episodes": [] if self.validation is None else self.validation["episode"].tolist(),
            "torch": torch.__version__,
        }
        return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()

    def _save(self, epoch: int, step: int, running: float) -> None:
        state = {
            "fingerprint": self.fingerprint,
            "epoch": epoch,
            "step": step,
            "running": running,
            "bad": self.bad,
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "best": self.best,
            "initial": self.initial,
        }
        checkpoint.save(self.folder, state, epoch * self.steps + step)
        self.saved_at = time.monotonic()

    def _resume(self) -> tuple[int, int, float]:
        state = checkpoint.load_latest(self.folder, self.fingerprint)
        if state is None:
            return 0, 0, 0.0
        self.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history, self.best, self.bad = state["history"], state["best"], state["bad"]
        self.initial = state["initial"]
        for row in self.history:
            self.on_epoch(row)
        return int(state["epoch"]), int(state["step"]), float(state["running"])


def create_optimizer(groups: list[dict[str, Any]], settings: TrainSettings) -> torch.optim.Optimizer:
    """The settings' optimiser over parameter groups."""
    decay = settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, weight_decay=decay)
    return torch.optim.AdamW(groups, lr=settings.lr, weight_decay=decay)
