"""A trained network on disk: ``weights.safetensors`` (``head.*``, ``backbone.*``) and ``config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from lerenet.files import atomic_dir, sha256_file, write_json
from lerenet.models.backbones import Backbone
from lerenet.models.base import Segmenter


def save_network(folder: Path, head: Segmenter, backbone: Backbone, config: dict[str, Any]) -> str:
    """Write the network whole or not at all; return the SHA-256 of its weights file.

    The backbone is kept only as deep as the head reads. Nothing is pickled.
    """
    slim = backbone.cut(head.levels)
    parts = {"head": head, "backbone": slim}
    state = {
        f"{part}.{name}": value.detach().cpu().clone().contiguous()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }
    with atomic_dir(folder) as temporary:
        save_file(state, temporary / "weights.safetensors")
        sha = sha256_file(temporary / "weights.safetensors")
        kept = {"levels": list(slim.levels), "channels": list(slim.channels), "weights_sha256": sha}
        write_json(temporary / "config.json", {**config, **kept})
    return sha
