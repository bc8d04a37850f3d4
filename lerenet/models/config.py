"""What a network can be set to, and the register in which each network enters itself by name.

A network's file holds a class of settings and, under `register`, what builds the network from them. Nothing else
has to know it: `networks` finds every file of the rooms in `ROOMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ValidationError

from lerenet.errors import ModelError, ParamsError
from lerenet.params import Level, Name, Params, Positive, Settings, Share, explain

if TYPE_CHECKING:
    from lerenet.models.segmenter import Segmenter

DEFAULT = "lerenet"  # the network of settings that name none
ROOMS = (
    "lerenet.models",
    "lerenet.models.lerenet",
    "lerenet.models.peers",
)  # packages whose files may hold networks
Turns = Literal[1, 2, 4]
Stride = Literal[8]
ShotFusion = Literal["average", "concat"]
Build = Callable[[Any, Mapping[int, int], int], "Segmenter"]  # settings, channels of the levels, image size
Builder = TypeVar("Builder", bound=Build)


class NetworkConfig(Settings):
    """What every network is set to."""

    name: Name

    @property
    def title(self) -> str:
        """For people."""
        return self.name

    def turns_on(self, backbone: str) -> Turns:
        """Over how many turns of the image the network wants the features of ``backbone`` averaged."""
        return 1

    def stride_on(self, backbone: str) -> Stride | None:
        """At which stride the network wants the deepest levels of ``backbone``; None: at its own."""
        return None


class FeatureConfig(NetworkConfig):
    """Of a network that reads features."""

    levels: tuple[Level, ...] | None = None  # None: the network's own
    turns: Turns | None = None  # None: as the network wants on that backbone
    stride: Stride | None = None  # 8: the backbone's levels 3 and 4 dilated to it; None: its own

    def turns_on(self, backbone: str) -> Turns:
        """As set, else 1."""
        return self.turns or 1

    def stride_on(self, backbone: str) -> Stride | None:
        """As set."""
        return self.stride


class HeadConfig(FeatureConfig):
    """Of a network with a trained head on a square grid."""

    width: Positive | None = None  # channels c; None: the network's own
    side: Positive | None = None  # of the grid, h = w; None: the network's own
    dropout: Share | None = None  # for all of the head's rates; None: the network's own


@dataclass(frozen=True)
class Registered:
    """A network in the register."""

    config: type[NetworkConfig]
    build: Build


_REGISTER: dict[str, Registered] = {}


def register(name: str, config: type[NetworkConfig]) -> Callable[[Builder], Builder]:
    """Enter the class or function below under ``name``, with its class of settings."""

    def enter(build: Builder) -> Builder:
        before = _REGISTER.get(name)
        if before is not None and before.build.__module__ != build.__module__:
            raise ModelError(
                f"two networks are called {name!r}: in {before.build.__module__} and {build.__module__}",
                "give one of them another name",
            )
        _REGISTER[name] = Registered(config, build)
        return build

    return enter


@cache
def networks() -> Mapping[str, Registered]:
    """Every network by name, in the order of the names."""
    for room in ROOMS:
        for module in iter_modules(import_module(room).__path__):
            if not module.ispkg:
                import_module(f"{room}.{module.name}")
    return dict(sorted(_REGISTER.items()))


def network_config(settings: Mapping[str, Any], where: str = "model") -> NetworkConfig:
    """The checked settings of the network that ``settings`` names.

    Args:
        where: their place, for the message.

    Raises:
        ParamsError: no such network, or a key that it does not know; the message lists what it knows.
    """
    name = settings.get("name", DEFAULT)
    if not isinstance(name, str) or name not in networks():
        raise ParamsError(f"{where}.name: no network {name!r}", f"known: {', '.join(networks())}")
    config = networks()[name].config
    try:
        return config.model_validate({"name": name, **settings})
    except ValidationError as error:
        wrong = explain(error, config)
        raise ParamsError(f"{where}: {wrong}", f"correct the settings of {name}") from error


def recipe_network(params: Params, recipe: str) -> NetworkConfig:
    """The network of a recipe.

    Raises:
        ParamsError: no such recipe, or see `network_config`.
    """
    if recipe not in params.recipes:
        names = ", ".join(sorted(params.recipes))
        raise ParamsError(f"no recipe {recipe!r} in params.yaml", f"known: {names}")
    return network_config(params.recipes[recipe].model, f"params.yaml: recipes.{recipe}.model")


def check_networks(params: Params) -> None:
    """Refuse settings of which a recipe's network is unknown, or does not know a key (`ParamsError`)."""
    for recipe in params.recipes:
        recipe_network(params, recipe)
