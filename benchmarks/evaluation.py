"""Evaluation, episodes a second: batches on cached features against the whole network, one by one."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from benchmarks.project import DEVICE, Project
from benchmarks.results import Row, Section, ratio
from lerenet import layout
from lerenet.evaluation.score import confusion, score
from lerenet.features.store import FeatureStore
from lerenet.models.backbones.factory import Backbone
from lerenet.models.network import Network
from lerenet.models.segmenter import Segmenter
from lerenet.progress import progress

CACHED, FRESH, PLAIN = "ours: features cached", "ours: features made in it", "plain: one by one, fp32"
NOTES = [
    "ours: score as the stage calls it; made in it: with decoding and one pass of the backbone an image",
    "plain: batch 1, support and query through the backbone for every episode, pictures from memory",
]


@dataclass(frozen=True)
class Subject:
    """What is scored: a head on its backbone, episodes, and a filled store."""

    project: Project
    head: Segmenter
    backbone: Backbone
    network: Network  # the same two, end to end
    store: FeatureStore
    episodes: pd.DataFrame


def measure(project: Project, rounds: int, count: int) -> Section:
    """Score ``count`` 1-shot test episodes each way, ``rounds`` times."""
    backbone = project.new_backbone(project.model)
    head = project.new_head(project.model, backbone).eval()
    store = project.store(backbone, project.split["novel"], views=False)
    known = project.chosen("test", min(project.params.episodes.shots))
    episodes = known.iloc[:: max(1, len(known) // count)].head(count)
    network = Network(backbone.cut(head.levels), head).eval()
    subject = Subject(project, head, backbone, network, store, episodes)
    ways = {CACHED: _cached, FRESH: _fresh, PLAIN: _plain}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    with progress("evaluation", rounds * len(ways)) as tick:
        for _ in range(rounds):
            for name, way in ways.items():
                began = time.perf_counter()
                way(subject)
                speeds[name].append(len(episodes) / (time.perf_counter() - began))
                tick(1, name)
    rows = [Row(name, "episodes/s", tuple(values)) for name, values in speeds.items()]
    rows += [ratio(f"{name}, over plain", speeds[name], speeds[PLAIN]) for name in (CACHED, FRESH)]
    title = f"Evaluation: {project.recipe}, {project.backbone}, {len(episodes)} episodes of {project.fold}"
    return Section(title, rows, NOTES)


def _cached(subject: Subject) -> None:
    score(subject.head, subject.store, subject.episodes, DEVICE, subject.project.params.precision)


def _fresh(subject: Subject) -> None:
    episodes, project = subject.episodes, subject.project
    named = {*episodes["query"], *(name for support in episodes["support"] for name in support)}
    rows = project.catalog[project.catalog["image"].isin(named)]
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(subject.backbone, rows, project.params, layout.DATA, Path(folder))
        store.ensure(sorted(set(rows["cls"])))
        score(subject.head, store, episodes, DEVICE, project.params.precision)


@torch.inference_mode()
def _plain(subject: Subject) -> None:
    store = subject.store
    for names, name in zip(subject.episodes["support"], subject.episodes["query"], strict=True):
        supports, query = [(str(support), 0) for support in names], [(str(name), 0)]
        logits = subject.network(
            store.pictures(supports)[None], store.masks(supports)[None], store.pictures(query)
        )
        confusion(logits > 0, store.masks(query) > 0.5)
