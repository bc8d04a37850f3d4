"""A query of an enrolled class: from a decoded picture to its mask in the picture's own size, batch 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from benchmarks.project import DEVICE, Project
from benchmarks.results import Row, Section
from lerenet import layout
from lerenet.cost.latency import repeat
from lerenet.data.images import read_image, resize_image
from lerenet.data.views import load_plain
from lerenet.device import autocast
from lerenet.models.backbones import create_backbone, turns_of
from lerenet.models.base import State
from lerenet.models.network import Network
from lerenet.progress import progress

BACKBONES = {"efficientnet_lite0": 60.0, "resnet50": 250.0}  # targets, ms
FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
Pixels = NDArray[np.uint8]


def measure(project: Project, repeats: int) -> Section:
    """Every backbone, precision and memory format, on one picture of the data."""
    defects = project.catalog[project.catalog["kind"] == "defect"]
    picture = read_image(layout.DATA / defects["image"].iloc[1])
    rows = []
    with progress("query", len(BACKBONES) * 4) as tick:
        for name, target in BACKBONES.items():
            network = _network(project, name)
            for precision in ("bf16", "fp32"):
                for form, memory in FORMATS.items():
                    call = _query(project, network, precision, memory, picture)
                    times = repeat(call, repeats)
                    note = f"target {target:g}"
                    rows.append(Row(f"{name}, {precision}, {form}", "ms", times.milliseconds, note))
                    tick(1, name)
    high, wide = picture.shape[:2]
    title = f"Query of an enrolled class: {project.recipe}, 1 shot, a picture of {wide} x {high}"
    note = (
        "from the decoded picture to a mask of its size, resizing in it; random weights; NHWC: channels last"
    )
    return Section(title, rows, [note])


def _network(project: Project, name: str) -> Network:
    whole = create_backbone(name, "random", project.params.levels, turns_of(project.model, name))
    head = project.new_head(project.model, whole)
    return Network(whole.cut(head.levels), head).eval()


def _query(
    project: Project, network: Network, precision: str, memory: torch.memory_format, picture: Pixels
) -> Callable[[], Pixels]:
    size = project.params.image_size
    network.to(memory_format=memory)
    defects = project.catalog[project.catalog["kind"] == "defect"]
    image, mask = load_plain(layout.DATA, defects.iloc[0], size)
    with torch.inference_mode(), autocast(DEVICE, precision):
        support = torch.from_numpy(image.copy()).permute(2, 0, 1)[None, None].float() / 255
        state = network.enroll(support, torch.from_numpy(mask.copy())[None, None].float())
    return lambda: segment(network, state, picture, size, precision, memory)


@torch.inference_mode()
def segment(
    network: Network,
    state: State,
    picture: Pixels,
    size: int,
    precision: str,
    memory: torch.memory_format,
) -> Pixels:
    """Picture (H, W, 3) -> mask (H, W) of 0 and 255."""
    small = torch.from_numpy(resize_image(picture, size).copy()).permute(2, 0, 1)[None]
    pictures = (small.float() / 255).contiguous(memory_format=memory)
    with autocast(DEVICE, precision):
        logits = network.segment(state, pictures).float()
    whole = interpolate(logits[None], size=picture.shape[:2], mode="bilinear", align_corners=False)
    mask: Pixels = ((whole[0, 0] > 0).numpy() * 255).astype(np.uint8)
    return mask
