"""The networks. `create_model` is the one way to make a head; `create_backbone` the one for a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from lerenet.errors import ModelError
from lerenet.params import PEERS, ModelConfig

if TYPE_CHECKING:
    from lerenet.models.base import Segmenter

__all__ = ["PEERS", "create_model"]


def create_model(config: ModelConfig, channels: Mapping[int, int], image_size: int) -> Segmenter:
    """Build the head that ``config`` describes.

    Args:
        channels: level -> channels of the backbone.
        image_size: side of the logits, in pixels.

    Raises:
        ModelError: unknown name, or a level that the backbone does not give.
    """
    from lerenet.models.lerenet import Baseline, PaperLERENet
    from lerenet.models.matching import Constant, Matching, Prototype
    from lerenet.models.relations import RelationLERENet

    registry: dict[str, type[Segmenter]] = {
        "lerenet": RelationLERENet if config.preset == "default" else PaperLERENet,
        "baseline": Baseline,
        "matching": Matching,
        "prototype": Prototype,
        "all_foreground": Constant,
        "all_background": Constant,
    }
    if config.name in PEERS:
        module = import_module(f"lerenet.models.peers.{config.name}")
        return getattr(module, PEERS[config.name])(config, channels, image_size)  # type: ignore[no-any-return]
    if config.name not in registry:
        known = ", ".join(sorted([*registry, *PEERS]))
        raise ModelError(f"no model {config.name!r}", f"known: {known}")
    return registry[config.name](config, channels, image_size)  # type: ignore[arg-type]
