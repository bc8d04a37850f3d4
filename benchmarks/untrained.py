"""What descriptors can do before anything is trained, on the base classes of each fold.

The default's levels, turns and grid are one choice for all folds, and every class is a base class in two
of them: docs/experiments.md says what that means for its scores.
"""

from __future__ import annotations

import pandas as pd

from benchmarks.project import DEVICE, Project
from benchmarks.results import Row, Section
from lerenet import layout
from lerenet.data.folds import Split, make_episodes
from lerenet.evaluation.metrics import miou
from lerenet.evaluation.score import score
from lerenet.features.store import FeatureStore
from lerenet.models import configure
from lerenet.models.baselines import LEVELS as MATCHED
from lerenet.models.config import NetworkConfig
from lerenet.models.lerenet.relations import LEVELS as JOINED
from lerenet.progress import progress

VARIANTS = {
    "matching, levels 2 and 3: the floor": configure("matching"),
    "matching, level 2 alone": configure("matching", levels=(2,)),
    "matching, level 3 alone": configure("matching", levels=(3,)),
    "matching, level 4 alone": configure("matching", levels=(4,)),
    "matching, levels 2 to 4": configure("matching", levels=JOINED),
    "matching, levels 2 and 3, 2 turns": configure("matching", turns=2),
    "matching, levels 2 and 3, 4 turns": configure("matching", turns=4),
    "matching, levels 2 to 4, 4 turns": configure("matching", levels=JOINED, turns=4),
    "matching, levels 1 to 4, 4 turns": configure("matching", levels=(1, *JOINED), turns=4),
    "matching, levels 2 to 4, 4 turns, grid 13": configure("matching", levels=JOINED, turns=4, side=13),
    "matching, levels 2 to 4, 4 turns, grid 50": configure("matching", levels=JOINED, turns=4, side=50),
    "LERENet's default, untrained": configure(levels=JOINED),
}


def measure(projects: list[Project]) -> Section:
    """mIoU of every variant on the base classes of every fold, 1-shot, groups apart."""
    folds = ", ".join(project.fold for project in projects)
    episodes = {project.fold: base_episodes(project) for project in projects}
    rows, variants = [], readable(projects[0].params.levels)
    with progress("untrained", len(variants) * len(projects)) as tick:
        for name, config in variants.items():
            values = []
            for project in projects:
                values.append(_miou(project, config, episodes[project.fold]))
                tick(1, name)
            each = ", ".join(f"{value:.1f}" for value in values)
            rows.append(Row(name, "mIoU", tuple(values), f"{each} ({folds})"))
    return Section("Without training, on the base classes of each fold", rows, ["1-shot, groups apart"])


def readable(cached: tuple[int, ...]) -> dict[str, NetworkConfig]:
    """The variants, reading only the levels that the settings cache; those with none of theirs are left out."""
    found = {}
    for name, config in VARIANTS.items():
        levels = tuple(level for level in getattr(config, "levels", None) or MATCHED if level in cached)
        if levels:
            found[name] = config.model_copy(update={"levels": levels})
    return found


def _miou(project: Project, config: NetworkConfig, episodes: pd.DataFrame) -> float:
    params = project.params
    backbone = project.new_backbone(config)
    store = FeatureStore(backbone, project.catalog, params, layout.DATA)
    store.ensure(sorted(set(episodes["cls"])))
    head = project.new_head(config, backbone)
    return miou(score(head, store, episodes, DEVICE, project.params.precision))


def base_episodes(project: Project) -> pd.DataFrame:
    """Frozen 1-shot episodes of the classes that a fold may learn from."""
    params, split = project.params, project.split
    known = sorted([*split["base"], *split["validation"]])
    all_held: Split = {"base": [], "validation": known, "novel": [], "left_out": None}
    settings = params.episodes.model_copy(update={"shots": (1,)})
    rows = make_episodes(project.catalog, {project.fold: all_held}, settings, params.seed)
    return rows[rows["kind"] == "defect"].reset_index(drop=True)
