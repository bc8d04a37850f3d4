"""Pictures of single episodes, picked by stated rules: differences, successes, failures.

After the paper's Figures 5 to 8. Every picture shows support, query with its truth and what
matching, Baseline and the shown model mark.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lerenet.data.images import Pixels, read_image
from lerenet.data.masks import read_mask
from lerenet.data.scaling import Mask, resize_image, resize_mask
from lerenet.drawing import draw_panel
from lerenet.evaluation.masks import read_masks
from lerenet.report.episodes import choose_episodes, choose_extremes
from lerenet.report.load import Loaded, Model

SHOWN = 4  # panels of a figure of differences
QUALITY = 80  # JPEG, of the panels in the page
RULE = (
    "Candidates are the 1-shot episodes of protocol “groups”, of each query image the first; among equals "
    "the smaller episode number is taken."
)
ALIKE = (
    "Support and query of one class look least alike: of each class the episode with the lowest cosine "
    f"between the defects' mean descriptors (frozen backbone), of those the {SHOWN} lowest."
)
AREAS = (
    "The defect's share of the picture differs most between support and query: of each class the episode "
    f"with the largest ratio of the two areas, of those the {SHOWN} largest."
)


@dataclass(frozen=True)
class Panel:
    """One picture of an episode, ready for the page."""

    caption: str
    alt: str
    data: str


@dataclass(frozen=True)
class Figure:
    """Panels that one rule picked."""

    title: str
    rule: str
    panels: list[Panel]


def figures(loaded: Loaded, shown: Model | None, others: list[Model]) -> list[Figure]:
    """The figures that can be drawn from what is there.

    Args:
        loaded: what the stages left; masks, episodes, catalogue and images are read from its folder.
        shown: the model whose successes and failures are shown.
        others: floors and models that stand beside it, in this order, as far as they were evaluated.
    """
    if shown is None or loaded.catalog is None or not (loaded.root / "folds" / "episodes.parquet").exists():
        return []
    album = _Album(loaded, shown, [*others, shown])
    return [figure for figure in (*_differences(album), *_outcomes(album)) if figure.panels]


def _differences(album: _Album) -> list[Figure]:
    rules = (
        ("cosine", "Semantic difference", True, "cosine {:.2f}", ALIKE),
        ("ratio", "Distortion difference", False, "area ratio {:.0f}", AREAS),
    )
    drawn = []
    for measure, title, lowest, text, rule in rules:
        chosen = (
            choose_extremes(album.episodes, measure, lowest, SHOWN) if measure in album.episodes else None
        )
        rows = chosen.to_dict("records") if chosen is not None else []
        panels = [album.panel(int(r["episode"]), str(r["cls"]), text.format(r[measure])) for r in rows]
        drawn.append(Figure(title, rule, [panel for panel in panels if panel]))
    return drawn


def _outcomes(album: _Album) -> list[Figure]:
    chosen = choose_episodes(album.scored)
    wanted = (
        ("best", "Successes", "highest"), ("worst", "Failures", "lowest"), ("median", "The usual case", "median"),
    )  # fmt: skip
    drawn = []
    for rank, title, word in wanted:
        rows = chosen[chosen["rank"] == rank].to_dict("records")
        panels = [album.panel(int(r["episode"]), str(r["cls"]), f"{word} IoU") for r in rows]
        rule = f"Of each class the episode with the {word} IoU of {album.shown.label}."
        drawn.append(Figure(title, rule, [panel for panel in panels if panel]))
    return drawn


class _Album:
    """Episodes with their measures, the masks of the models, the pictures."""

    def __init__(self, loaded: Loaded, shown: Model, models: list[Model]) -> None:
        self.loaded, self.shown = loaded, shown
        self.data = loaded.root.parent / "data"
        assert loaded.catalog is not None
        self.catalog = loaded.catalog.drop_duplicates("image").set_index("image", drop=False)
        self.masks = {model.label: _masks(loaded, model) for model in models}

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """Episodes of which the shown model's mask is known: number, class, images, ratio, cosine."""
        table = pd.read_parquet(
            self.loaded.root / "folds" / "episodes.parquet", columns=["episode", "cls", "query", "support"]
        )
        table = table[table["episode"].isin(list(self.masks[self.shown.label]))]
        table = table.assign(support=[str(names[0]) for names in table["support"]])
        share = self.catalog["foreground"]
        areas = [table[column].map(share).to_numpy(float) for column in ("query", "support")]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.maximum(areas[0] / areas[1], areas[1] / areas[0])
        table = table.assign(ratio=np.where(np.minimum(*areas) > 0, ratio, np.nan))
        paths = sorted(self.loaded.root.glob(f"floors/*-{self.shown.backbone}/likeness.parquet"))
        paths = [path for path in paths if path.parent.name in self.loaded.inits]
        if not paths:
            return table
        return table.merge(pd.concat([pd.read_parquet(path) for path in paths]), on="episode", how="left")

    @property
    def scored(self) -> pd.DataFrame:
        """Counts of the shown model (its first seed) on those episodes."""
        counts = self.loaded.counts_of(self.shown.id, 1)
        first = counts[counts["seed"] == min(self.shown.seeds)] if len(counts) else counts
        return first[first["episode"].isin(list(self.masks[self.shown.label]))] if len(first) else first

    def panel(self, number: int, cls: str, note: str) -> Panel | None:
        """The picture of one episode; None when its images are not there."""
        row = self.episodes.set_index("episode").loc[number]
        if not all((self.data / row[name]).exists() for name in ("query", "support")):
            return None
        results = {name: masks[number] for name, masks in self.masks.items() if number in masks}
        side = len(next(iter(results.values())))
        support, query = (self._picture(str(row[name]), side) for name in ("support", "query"))
        pixels = draw_panel(*support, *query, results)
        names = ", ".join(results)
        alt = f"{cls}, episode {number}: support, query and what these mark: {names}"
        return Panel(f"{cls}, episode {number}, {note}", alt, embedded(pixels))

    def _picture(self, name: str, side: int) -> tuple[Pixels, Mask]:
        row = self.catalog.loc[name]
        image = resize_image(read_image(self.data / row["image"]), side)
        return image, resize_mask(read_mask(self.data / row["mask"]), side)


def _masks(loaded: Loaded, model: Model) -> dict[int, Mask]:
    """Episode to mask of a model; of its seeds the first."""
    if model.floor:
        folders: list[Path] = [
            path
            for path in sorted(loaded.root.glob(f"floors/*-{model.backbone}"))
            if path.name in loaded.inits
        ]
    else:
        cells = [cell for cell in loaded.cells_of(model) if cell.seed == min(model.seeds)]
        folders = [loaded.root / "evaluate" / cell.key for cell in cells]
    masks: dict[int, Mask] = {}
    for folder in folders:
        if (folder / "masks.npz").exists():
            masks |= read_masks(folder / "masks.npz")
    return masks


def embedded(pixels: Pixels) -> str:
    """A picture as the address of an image on a page."""
    with io.BytesIO() as out:
        Image.fromarray(pixels).save(out, "JPEG", quality=QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
