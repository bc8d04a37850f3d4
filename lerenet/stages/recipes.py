"""From settings to networks: which weights a cell's backbone starts from."""

from __future__ import annotations

from pathlib import Path

from lerenet.cells import Cell
from lerenet.layout import PRETRAIN
from lerenet.models import backbone_for
from lerenet.models.backbones.factory import Backbone
from lerenet.models.config import recipe_network
from lerenet.params import Params


def start_weights(params: Params, base: str, pretrained: bool) -> str:
    """What a cell's backbone starts from: the pretraining's weights or ``params.init``."""
    return str(PRETRAIN / base / "backbone.safetensors") if pretrained else params.init


def cell_backbone(params: Params, cell: Cell, project: Path = Path()) -> Backbone:
    """The backbone of a cell, in eval mode, with the levels that are cached."""
    start = start_weights(params, cell.base, params.recipes[cell.recipe].pretrained)
    path = str(project / start) if start.endswith(".safetensors") else start
    network = recipe_network(params, cell.recipe)
    return backbone_for(network, cell.backbone, path, params.levels).eval()
