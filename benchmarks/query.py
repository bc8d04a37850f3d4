"""A query of an enrolled class: from a decoded picture to its mask in the picture's own size, batch 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.project import DEVICE, Project
from benchmarks.results import Row, Section
from lerenet import layout
from lerenet.cost.latency import repeat
from lerenet.data.images import read_image
from lerenet.data.pairs import read_pair
from lerenet.device import autocast, has_bf16
from lerenet.inference import Example, Pixels, enrol, prepare, segment
from lerenet.models import backbone_for
from lerenet.models.network import Network
from lerenet.models.serialization import LoadedNetwork
from lerenet.progress import progress

BACKBONES = {"efficientnet_lite0": 60.0, "resnet50": 250.0}  # targets of `lerenet predict`, ms
WAYS = {  # as what -> whether folded, whether fused, precision
    "as `lerenet predict`": (True, True, "fp32"),
    "folded, not fused": (True, False, "fp32"),
    "folded, in bf16": (True, False, "bf16"),
    "normalisation not folded": (False, False, "fp32"),
}


def measure(project: Project, repeats: int) -> Section:
    """Every backbone and way, on one picture of the data."""
    defects = project.catalog[project.catalog["kind"] == "defect"]
    paths = [(layout.DATA / row["image"], layout.DATA / row["mask"]) for _, row in defects[:2].iterrows()]
    support, picture = read_pair(paths[0][0], [paths[0][1]]), read_image(paths[1][0])
    rows = []
    with progress("query", len(BACKBONES) * repeats) as tick:
        for name, target in BACKBONES.items():
            calls = {
                way: _query(_loaded(project, name, folded, fused), precision, support, picture)
                for way, (folded, fused, precision) in WAYS.items()
                if precision == "fp32" or has_bf16(DEVICE.type)
            }
            spent: dict[str, list[float]] = {way: [] for way in calls}
            for _ in range(repeats):  # in turns, each warmed up
                for way, call in calls.items():
                    spent[way] += repeat(call, repeats=1, warm_up=1).milliseconds
                tick(1, name)
            for way, times in spent.items():
                note = f"target {target:g}" if WAYS[way] == (True, True, "fp32") else ""
                rows.append(Row(f"{name}, {way}", "ms", tuple(times), note))
    high, wide = picture.shape[:2]
    title = f"Query of an enrolled class: {project.recipe}, 1 shot, a picture of {wide} x {high}"
    note = "from the decoded picture to a mask of its size, resizing in it; random weights; freed memory kept"
    return Section(title, rows, [note])


def _loaded(project: Project, name: str, folded: bool, fused: bool) -> LoadedNetwork:
    whole = backbone_for(project.model, name, "random", project.params.levels)
    head = project.new_head(project.model, whole)
    loaded = LoadedNetwork(Network(whole.cut(head.levels), head).eval(), project.params.image_size)
    return prepare(loaded, fused) if folded else loaded


def _query(loaded: LoadedNetwork, precision: str, support: Example, picture: Pixels) -> Callable[[], Any]:
    def call() -> Any:
        with autocast(DEVICE, precision):
            return segment(loaded, state, [picture])

    with autocast(DEVICE, precision):
        state = enrol(loaded, [support])
    return call
