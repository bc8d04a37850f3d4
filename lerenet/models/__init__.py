"""The networks. `create_model` is the one way to make a head; `create_backbone` the one for a backbone.

`backbone_for` makes the backbone as a network reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lerenet.models.backbones.factory import Backbone
    from lerenet.models.config import NetworkConfig
    from lerenet.models.segmenter import Segmenter

__all__ = ["backbone_for", "configure", "create_model"]


def configure(name: str = "lerenet", **settings: Any) -> NetworkConfig:
    """The settings of a network, checked by the network's own class.

    Raises:
        ParamsError: unknown name or key, or a value out of range.
    """
    from lerenet.models.config import network_config

    return network_config({"name": name, **settings})


def create_model(config: NetworkConfig, channels: Mapping[int, int], image_size: int) -> Segmenter:
    """Build the head that ``config`` describes.

    Args:
        channels: level -> channels of the backbone.
        image_size: side of the logits, in pixels.

    Raises:
        ModelError: a level that the backbone does not give.
    """
    from lerenet.models.config import networks

    return networks()[config.name].build(config, channels, image_size)


def backbone_for(config: NetworkConfig, name: str, init: str, levels: Sequence[int]) -> Backbone:
    """Backbone ``name`` with the turns and the stride that the network of ``config`` wants on it.

    Raises:
        ModelError: see `lerenet.models.backbones.factory.create_backbone`.
    """
    from lerenet.models.backbones.factory import create_backbone

    return create_backbone(name, init, levels, config.turns_on(name), config.stride_on(name))
