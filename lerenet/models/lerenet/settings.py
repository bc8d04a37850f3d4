"""What LERENet and its Baseline can be set to."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from lerenet.models.backbones.factory import LIGHT
from lerenet.models.config import HeadConfig, ShotFusion, Turns


class LERENetConfig(HeadConfig):
    """LERENet in one of three readings, with the switches of Table 3.

    ``preset`` names the reading (see docs/network.md): ``default`` (relations only), ``paper`` (the equations) or
    ``authors`` (what their early code does). MPE* is MPE with the global edge information: D_cos, and with
    ``default`` the edges and tones of the query's picture, which its prediction follows.
    """

    preset: Literal["default", "paper", "authors"] = "default"
    mpr: bool = True
    mpe: bool = True
    edge: bool = True
    edge_form: Literal["descriptor", "channel", "aligned"] | None = None  # of D_cos; None: the preset's
    shot_fusion: ShotFusion = "concat"

    @model_validator(mode="after")
    def _channels_to_compare(self) -> LERENetConfig:
        if self.preset == "default" and self.edge_form not in (None, "descriptor"):
            raise ValueError(
                f"edge_form {self.edge_form!r} needs feature channels, and the default preset has none: "
                "set preset paper or authors, or leave edge_form out"
            )
        return self

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name} ({self.preset})"

    def turns_on(self, backbone: str) -> Turns:
        """As set, else 4 for the default on a light backbone: there they cost less than one pass of ResNet50."""
        return self.turns or (4 if self.preset == "default" and backbone in LIGHT else 1)


class BaselineConfig(HeadConfig):
    """Section 5.1's Baseline, on the features that a preset of LERENet reads."""

    preset: Literal["paper", "authors"] = "paper"

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name} ({self.preset})"
