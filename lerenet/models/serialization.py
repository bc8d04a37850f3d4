"""A network on disk: ``weights.safetensors`` (``head.*``, ``backbone.*``) and ``config.json``, never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lerenet.errors import LerenetError, ModelError, ParamsError
from lerenet.files import atomic_dir, read_json, sha256_file, write_json
from lerenet.layout import WEIGHTS
from lerenet.models import backbone_for, configure, create_model
from lerenet.models.backbones.factory import Backbone, create_backbone
from lerenet.models.config import NetworkConfig, network_config, networks
from lerenet.models.lerenet.relations import matching_config
from lerenet.models.network import Network
from lerenet.models.segmenter import Segmenter

CONFIG = "config.json"
RENAMED = {"grid": "side", "shots": "shot_fusion"}  # in earlier files
RESTORE = "train it again, or restore the folder from where it was registered"
LEVELS = (1, 2, 3, 4)  # what `matching_network` offers its head


@dataclass(frozen=True)
class LoadedNetwork:
    """A network ready to predict.

    Attributes:
        network: Backbone and head, in eval mode, on the CPU.
        image_size: Side in pixels to which images are resized.
        threshold: Probability above which a pixel is foreground.
        source: What was loaded, for people.
        version: Number of the registered version; empty for another model.
        config: What config.json holds.
    """

    network: Network
    image_size: int
    threshold: float = 0.5
    source: str = ""
    version: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


def load_network(folder: Path, sha256: str | None = None) -> LoadedNetwork:
    """Load a folder that `lerenet.models.serialization.save_network` wrote.

    Args:
        folder: Holds weights.safetensors and config.json.
        sha256: Digest that the weights file must have; config.json's own is checked in any case.

    Raises:
        ModelError: a file is missing, cut short, not what its digest says, or doesn't fit.
    """
    folder = Path(folder)
    config = _config(folder)
    weights = _weights(folder, [sha256, config.get("weights_sha256")])
    try:
        model = _network_of(config["model"])
        levels = tuple(int(level) for level in config["levels"])
        size, threshold = int(config["image_size"]), float(config.get("threshold", 0.5))
        name = str(config["backbone"])
        backbone = backbone_for(model, name, "random", levels)
        channels = dict(zip(backbone.levels, backbone.channels, strict=True))
        head = create_model(model, channels, size)
    except (KeyError, TypeError, ValueError, ParamsError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{folder / CONFIG}: {reason}", RESTORE) from error
    if not (32 <= size <= 1024 and 0 < threshold < 1):
        raise ModelError(f"{folder / CONFIG}: image_size {size}, threshold {threshold} out of range", RESTORE)
    _fill(backbone, weights, "backbone.", folder)
    _fill(head, weights, "head.", folder)
    return LoadedNetwork(Network(backbone, head).eval(), size, threshold, str(folder), config=config)


def matching_network(
    image_size: int = 200, backbone: str = "efficientnet_lite0", init: str = "imagenet"
) -> LoadedNetwork:
    """The matcher that needs no training: cosine similarity of the default's frozen features.

    It is the floor ``matching_lerenet`` of the tables.

    Raises:
        ModelError: the backbone's initial weights can't be found.
    """
    turns = configure().turns_on(backbone)
    whole = create_backbone(backbone, init, LEVELS, turns)
    channels = dict(zip(whole.levels, whole.channels, strict=True))
    config = matching_config(channels, turns)
    head = create_model(config, channels, image_size)
    network = Network(whole.cut(head.levels), head).eval()
    described = {"model": config.model_dump(mode="json"), "backbone": backbone, "image_size": image_size}
    return LoadedNetwork(network, image_size, 0.5, f"matching ({backbone})", config=described)


def _network_of(model: dict[str, Any]) -> NetworkConfig:
    """The settings of a saved network; earlier files hold every network's settings, some under other names."""
    if "grid" in model:
        renamed = {RENAMED.get(key, key): value for key, value in model.items()}
        if renamed["name"] == "baseline" and renamed["preset"] == "default":
            renamed["preset"] = "paper"
        entry = networks().get(renamed["name"])
        model = {key: value for key, value in renamed.items() if entry and key in entry.config.model_fields}
    return network_config(model)


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / WEIGHTS).is_file() or not (folder / CONFIG).is_file():
        raise ModelError(
            f"{folder}: no model there ({WEIGHTS} and {CONFIG} are needed)",
            "give a model folder, e.g. artifacts/train/<cell>/model",
        )
    try:
        config = read_json(folder / CONFIG)
    except LerenetError as error:
        raise ModelError(error.what, RESTORE) from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder / CONFIG}: not an object of settings", RESTORE)
    return config


def _weights(folder: Path, digests: list[str | None]) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    actual = sha256_file(path) if any(digests) else ""
    for wanted in filter(None, digests):
        if wanted != actual:
            raise ModelError(f"{path}: sha256 is {actual[:12]}…, {wanted[:12]}… was expected", RESTORE)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a whole safetensors file: {error}", RESTORE) from error


def _fill(module: Any, weights: Mapping[str, Tensor], prefix: str, folder: Path) -> None:
    mine = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(mine, strict=True)
    except RuntimeError as error:
        raise ModelError(f"{folder / WEIGHTS}: {error}", RESTORE) from error


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
