"""Read what the stages left in ``artifacts/``; whatever is missing is left out, never an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lerenet.errors import ParamsError
from lerenet.files import read_json
from lerenet.layout import Cell
from lerenet.params import Params

FLOORS = {
    "all_foreground": "All foreground",
    "all_background": "All background",
    "prototype": "Prototype",
    "matching": "Matching",
}
SAME_EVERYWHERE = ("all_foreground", "all_background")  # no backbone changes them
FOLD_NAMES = ("fold0", "fold1", "fold2")


@dataclass(frozen=True)
class Model:
    """One row of the tables: a floor or a cell of the grid, over all its folds.

    ``id`` is short and stable: the recipe's or floor's name, then the shots of its training unless
    1, then backbone and seed where they differ from the shipped cell. It is the first part of the
    keys of ``metrics.json``.
    """

    id: str
    label: str
    floor: bool
    backbone: str
    recipe: str = ""
    trained_shots: int = 0
    seed: int = 0

    @property
    def detail(self) -> str:
        """Backbone, shots of the training and seed, as the tables print them."""
        if self.recipe:
            return f"{self.backbone}, trained with {_shots(self.trained_shots)}, seed {self.seed}"
        return "no training" if self.id in SAME_EVERYWHERE else f"{self.backbone}, no training"


@dataclass(frozen=True)
class Loaded:
    """Everything the report shows, as read from the stage folders."""

    root: Path
    models: list[Model] = field(default_factory=list)
    scores: pd.DataFrame = field(default_factory=pd.DataFrame)  # a row a model, split, protocol and shots
    counts: pd.DataFrame = field(default_factory=pd.DataFrame)  # counts.parquet of all, column ``model_id``
    catalog: pd.DataFrame | None = None
    folds: dict[str, Any] | None = None
    validations: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, pd.DataFrame] = field(default_factory=dict)
    pretrain: dict[str, dict[str, Any]] = field(default_factory=dict)
    panels: list[Path] = field(default_factory=list)

    @property
    def shots(self) -> list[int]:
        """The numbers of support images that were evaluated."""
        return [] if self.scores.empty else sorted(int(shots) for shots in self.scores["shots"].unique())

    def model(self, model_id: str) -> Model | None:
        """The model of that id, if it was evaluated."""
        return next((model for model in self.models if model.id == model_id), None)

    def counts_of(self, model_id: str, shots: int, kind: str = "defect") -> pd.DataFrame:
        """Rows of one model for protocol "groups"."""
        table = self.counts
        if table.empty:
            return table
        wanted = (table["model_id"] == model_id) & (table["shots"] == shots) & (table["kind"] == kind)
        return table[wanted & (table["protocol"] == "groups")]


def _shots(shots: int) -> str:
    return f"{shots} shot" if shots == 1 else f"{shots} shots"


def _cell_model(cell: Cell, params: Params) -> Model:
    name = cell.recipe if cell.shots == 1 else f"{cell.recipe}-{cell.shots}shot"
    if cell.backbone != params.ship.backbone:
        name += f"-{cell.backbone}"
    if cell.seed != params.ship.seed:
        name += f"-seed{cell.seed}"
    return Model(name, cell.recipe, False, cell.backbone, cell.recipe, cell.shots, cell.seed)


def _floor_model(name: str, backbone: str, params: Params) -> Model:
    own = backbone == params.ship.backbone or name in SAME_EVERYWHERE
    return Model(name if own else f"{name}-{backbone}", FLOORS.get(name, name), True, backbone)


def _evaluations(root: Path, params: Params) -> Iterator[tuple[Path, str, Model | None]]:
    """Folders with a summary: (folder, split, its model or None when rows name the floors)."""
    for folder in sorted((root / "floors").glob("*-*")):
        split, backbone = folder.name.split("-", 1)
        if (folder / "summary.json").exists():
            yield folder, f"{split} {backbone}", None
    for folder in sorted((root / "evaluate").glob("*")):
        try:
            cell = Cell.parse(folder.name)
        except ParamsError:
            continue
        if (folder / "summary.json").exists():
            yield folder, cell.split, _cell_model(cell, params)


def _read_evaluations(root: Path, params: Params) -> tuple[dict[str, Model], list[Any], list[pd.DataFrame]]:
    models: dict[str, Model] = {}
    rows: list[dict[str, Any]] = []
    counts: list[pd.DataFrame] = []
    for folder, place, model in _evaluations(root, params):
        split, _, backbone = place.partition(" ")
        of: dict[str, Model] = {}
        for row in read_json(folder / "summary.json"):
            found = model or _floor_model(row["model"], backbone, params)
            of[row["model"]] = models.setdefault(found.id, found)
            rows.append({"clean": None, **row, "split": row.get("split", split), "model_id": found.id})
        if (folder / "counts.parquet").exists():
            table = pd.read_parquet(folder / "counts.parquet")
            names = table["model"].map({name: found.id for name, found in of.items()})
            counts.append(table.assign(model_id=names if model is None else model.id))
    return models, rows, counts


def _in_order(models: dict[str, Model], params: Params) -> list[Model]:
    recipes = list(params.recipes)
    floors = list(FLOORS.values())

    def place(model: Model) -> tuple[Any, ...]:
        if model.floor:
            return 0, floors.index(model.label) if model.label in floors else 9, model.backbone
        rank = recipes.index(model.recipe) if model.recipe in recipes else len(recipes)
        return 1, rank, model.recipe, model.backbone, model.trained_shots, model.seed

    return sorted(models.values(), key=place)


def _once(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Floors that no backbone changes are evaluated once a backbone; keep the first."""
    return table.drop_duplicates(keys, ignore_index=True) if not table.empty else table


def _optional_json(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def load(root: Path, params: Params) -> Loaded:
    """Read the stage folders below ``root`` (``artifacts/``).

    Raises:
        LerenetError: a file that is there but can't be read; the message names it.
    """
    root = Path(root)
    models, rows, counts = _read_evaluations(root, params)
    catalog = root / "catalog.parquet"
    validations = {
        name: _optional_json(root / name / "result.json") for name in ("validation", "validation_folds")
    }
    pretrain = {f.parent.name: _optional_json(f) for f in sorted(root.glob("pretrain/*/metrics.json"))}
    return Loaded(
        root=root,
        models=_in_order(models, params),
        scores=_once(pd.DataFrame(rows), ["model_id", "split", "protocol", "shots"]),
        counts=_once(pd.concat(counts, ignore_index=True), ["model_id", "episode"])
        if counts
        else pd.DataFrame(),
        catalog=pd.read_parquet(catalog) if catalog.exists() else None,
        folds=_optional_json(root / "folds" / "folds.json"),
        validations={name: value for name, value in validations.items() if value is not None},
        runs=[_optional_json(path) for path in sorted(root.glob("**/run.json"))],
        curves={f.parent.name: pd.read_csv(f) for f in sorted(root.glob("train/*/curve.csv"))},
        pretrain=pretrain,
        panels=sorted(root.glob("evaluate/*/panels/*.png")),
    )
