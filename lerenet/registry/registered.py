"""What a registered version is, and what its files are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NAME = "lerenet"
PACKAGE = "artifacts/package"  # in a version's folder: what this project reads of it
PARAMS = "params.json"  # the settings
EPISODES = "episodes.parquet"  # the ones it was scored on
INSPECTION = "inspection"  # in the package: the live model, network/ and classes/
INSPECTED = "counts.parquet"  # in it: what it says of each of its images, left out
CHAMPION = "champion"


@dataclass(frozen=True)
class Version:
    """A registered version: its number, tags, aliases, run and where its files are."""

    number: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    run_id: str
    source: str
