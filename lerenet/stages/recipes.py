"""From settings to networks: which weights a cell's backbone starts from."""

from __future__ import annotations

import hashlib
import json
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


def settings_digest(params: Params, cell: Cell) -> str:
    """Of all settings that a cell's scores depend on: two cells of one key and one digest are the same."""
    beside = params.model_dump(
        mode="json",
        include={"seed", "image_size", "init", "levels", "precision", "views", "pretrain", "episodes"},
    )
    recipe = params.recipes[cell.recipe]
    said = {
        "cell": cell.key, "recipe": recipe.model_dump(mode="json"),
        "train": params.train_settings(cell.recipe).model_dump(mode="json"), **beside,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def cell_backbone(params: Params, cell: Cell, project: Path = Path()) -> Backbone:
    """The backbone of a cell, in eval mode, with the levels that are cached."""
    start = start_weights(params, cell.base, params.recipes[cell.recipe].pretrained)
    path = str(project / start) if start.endswith(".safetensors") else start
    network = recipe_network(params, cell.recipe)
    return backbone_for(network, cell.backbone, path, params.levels).eval()
