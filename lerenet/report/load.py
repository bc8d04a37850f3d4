"""Read what the stages left in ``artifacts/``; whatever is missing is left out, never an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from lerenet.cells import Cell
from lerenet.errors import ParamsError
from lerenet.evaluation.protocol import summarise
from lerenet.files import read_json
from lerenet.params import KNOWN, NOVEL, QUESTIONS, Params

FLOORS = {
    "all_foreground": "All foreground",
    "all_background": "All background",
    "prototype": "Prototype",
    "matching": "Matching",
    "matching_lerenet": "Matching, LERENet's features",
}
SAME_EVERYWHERE = ("all_foreground", "all_background")  # no backbone changes them
KNOWN_CLASSES = (
    "Every class is trained on; each of four trainings leaves a quarter of the groups out and is asked about them, all "
    "with supports of groups that were trained on. Nothing is chosen: the weights are those of the last epoch."
)


@dataclass(frozen=True)
class Model:
    """One row of the tables: a floor, or a recipe over all its folds and training seeds.

    ``id`` is short and stable: the recipe's or floor's name, then the shots of its training unless
    1, then the backbone where it differs from the shipped cell's. It is the first part of the keys of
    ``metrics.json``.
    """

    id: str
    label: str
    floor: bool
    backbone: str
    recipe: str = ""
    trained_shots: int = 0
    seeds: tuple[int, ...] = ()

    @property
    def detail(self) -> str:
        """Backbone, shots of the training and seeds, as the tables print them."""
        if self.recipe:
            seeds = f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}"
            return f"{self.backbone}, trained with {_shots(self.trained_shots)}, {seeds}"
        return "no training" if self.id in SAME_EVERYWHERE else f"{self.backbone}, no training"


@dataclass(frozen=True)
class Loaded:
    """Everything the report shows of one question, as read from the stage folders.

    ``question`` is about `NOVEL` classes, which no training of a fold saw, or about `KNOWN` ones, of which each fold's
    trainings saw other groups.
    """

    root: Path
    question: str = NOVEL
    models: list[Model] = field(default_factory=list)
    scores: pd.DataFrame = field(default_factory=pd.DataFrame)  # a row a model, seed, split, protocol, shots
    counts: pd.DataFrame = field(
        default_factory=pd.DataFrame
    )  # counts.parquet of all; ``model_id``, ``seed``
    catalog: pd.DataFrame | None = None
    folds: dict[str, Any] | None = None
    validations: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, pd.DataFrame] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)  # cell -> epoch whose weights it kept
    pretrain: dict[str, dict[str, Any]] = field(default_factory=dict)
    inits: dict[str, str] = field(default_factory=dict)  # evaluated folder -> where its backbone began
    live: dict[str, Any] = field(default_factory=dict)  # class -> what stage inspect says of it
    skipped: list[str] = field(default_factory=list)  # evaluated on other episodes than today's

    @property
    def folds_asked(self) -> tuple[str, ...]:
        """The folds of the question; known classes are asked about over all of their folds at once."""
        return QUESTIONS[NOVEL] if self.question == NOVEL else (KNOWN,)

    @property
    def shots(self) -> list[int]:
        """The numbers of support images that were evaluated."""
        return [] if self.scores.empty else sorted(int(shots) for shots in self.scores["shots"].unique())

    def model(self, model_id: str) -> Model | None:
        """The model of that id, if it was evaluated."""
        return next((model for model in self.models if model.id == model_id), None)

    def counts_of(self, model_id: str, shots: int, kind: str = "defect") -> pd.DataFrame:
        """Rows of one model, all its seeds, for protocol "groups"."""
        table = self.counts
        if table.empty:
            return table
        wanted = (table["model_id"] == model_id) & (table["shots"] == shots) & (table["kind"] == kind)
        return table[wanted & (table["protocol"] == "groups")]

    def cells_of(self, model: Model) -> list[Cell]:
        """The evaluated cells behind a row; none for a floor."""
        cells = [Cell.parse(name) for name in self.inits if name.count("-") == 4]
        wanted = (model.recipe, model.backbone, model.trained_shots)
        return [cell for cell in cells if (cell.recipe, cell.backbone, cell.shots) == wanted]


def _shots(shots: int) -> str:
    return f"{shots} shot" if shots == 1 else f"{shots} shots"


def _cell_model(cell: Cell, params: Params) -> Model:
    name = cell.recipe if cell.shots == 1 else f"{cell.recipe}-{cell.shots}shot"
    if cell.backbone != params.ship.backbone:
        name += f"-{cell.backbone}"
    return Model(name, cell.recipe, False, cell.backbone, cell.recipe, cell.shots)


def _floor_model(name: str, backbone: str, params: Params) -> Model:
    own = backbone == params.ship.backbone or name in SAME_EVERYWHERE
    return Model(name if own else f"{name}-{backbone}", FLOORS.get(name, name), True, backbone)


@dataclass(frozen=True)
class _Evaluation:
    """A folder with a summary, its model (None when its rows name the floors) and the seed of its training."""

    folder: Path
    split: str
    backbone: str
    model: Model | None
    seed: int


def _evaluations(root: Path, params: Params) -> Iterator[_Evaluation]:
    for folder in sorted((root / "floors").glob("*-*")):
        split, backbone = folder.name.split("-", 1)
        yield _Evaluation(folder, split, backbone, None, 0)
    for folder in sorted((root / "evaluate").glob("*")):
        try:
            cell = Cell.parse(folder.name)
        except ParamsError:
            continue
        yield _Evaluation(folder, cell.split, cell.backbone, _cell_model(cell, params), cell.seed)


def _read_evaluations(root: Path, params: Params, digest: str | None, question: str) -> dict[str, Any]:
    """Models by id, rows of the summaries, tables of counts; inits of and skipped folders by name."""
    read: dict[str, Any] = {"models": {}, "rows": [], "counts": [], "inits": {}, "skipped": []}
    for item in _evaluations(root, params):
        if item.split not in QUESTIONS[question] or not (item.folder / "summary.json").exists():
            continue
        about = _optional_json(item.folder / "about.json") or {}
        if digest is not None and about.get("episodes") != digest:
            read["skipped"].append(item.folder.name)
            continue
        read["inits"][item.folder.name] = str(about.get("init", "unknown"))
        _read_one(item, params, read)
    return read


def _read_one(item: _Evaluation, params: Params, read: dict[str, Any]) -> None:
    ids: dict[str, str] = {}
    for row in read_json(item.folder / "summary.json"):
        model = item.model or _floor_model(row["model"], item.backbone, params)
        before = read["models"].setdefault(model.id, model)
        if not model.floor:
            seeds = tuple(sorted({*before.seeds, item.seed}))
            read["models"][model.id] = replace(before, seeds=seeds)
        ids[row["model"]] = model.id
        own = {"split": row.get("split", item.split), "model_id": model.id, "seed": item.seed}
        read["rows"].append({"clean": None, **row, **own})
    if (item.folder / "counts.parquet").exists():
        table = pd.read_parquet(item.folder / "counts.parquet")
        read["counts"].append(table.assign(model_id=table["model"].map(ids), seed=item.seed))


def _in_order(models: dict[str, Model], params: Params) -> list[Model]:
    recipes = list(params.recipes)
    floors = list(FLOORS.values())

    def place(model: Model) -> tuple[Any, ...]:
        if model.floor:
            return 0, floors.index(model.label) if model.label in floors else 9, model.backbone
        rank = recipes.index(model.recipe) if model.recipe in recipes else len(recipes)
        return 1, rank, model.recipe, model.backbone, model.trained_shots

    return sorted(models.values(), key=place)


def _once(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Floors that no backbone changes are evaluated once a backbone; keep the first."""
    return table.drop_duplicates(keys, ignore_index=True) if not table.empty else table


def _optional_json(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def load(root: Path, params: Params, question: str = NOVEL) -> Loaded:
    """Read the stage folders below ``root`` (``artifacts/``), of the evaluations those of one question.

    Raises:
        LerenetError: a file that is there but can't be read; the message names it.
    """
    root = Path(root)
    folds = _optional_json(root / "folds" / "folds.json")
    digest = folds["digest"] if folds else None
    read = _read_evaluations(root, params, digest, question)
    catalog = root / "catalog.parquet"
    validations = {
        name: _optional_json(root / name / "result.json") for name in ("validation", "validation_folds")
    }
    counts = pd.concat(read["counts"], ignore_index=True) if read["counts"] else pd.DataFrame()
    if question == KNOWN and len(counts):
        counts = counts.assign(split=KNOWN)
        read["rows"] = list(_pooled(counts, params))
    return Loaded(
        root=root,
        question=question,
        models=_in_order(read["models"], params),
        scores=_once(pd.DataFrame(read["rows"]), ["model_id", "seed", "split", "protocol", "shots"]),
        counts=_once(counts, ["model_id", "seed", "episode"]),
        catalog=pd.read_parquet(catalog) if catalog.exists() else None,
        folds=folds,
        validations={name: value for name, value in validations.items() if value is not None},
        runs=[_optional_json(path) for path in sorted(root.glob("**/run.json"))],
        curves={f.parent.name: pd.read_csv(f) for f in _curves(root, digest)},
        kept={
            f.parent.name: int(read_json(f)["best_epoch"]) for f in sorted(root.glob("train/*/metrics.json"))
        },
        pretrain={f.parent.name: _optional_json(f) for f in sorted(root.glob("pretrain/*/metrics.json"))},
        inits=read["inits"],
        live=_optional_json(root / "inspect" / "summary.json") or {},
        skipped=read["skipped"],
    )


def _pooled(counts: pd.DataFrame, params: Params) -> Iterator[dict[str, Any]]:
    """Rows as a summary has them, of the counts of all known folds together.

    A class's images lie in some folds and not in others, so means over folds would weigh classes by chance.
    """
    for (model_id, seed), part in counts.groupby(["model_id", "seed"]):
        yield from ({**row, "model_id": model_id, "seed": seed} for row in summarise(part, params))


def _curves(root: Path, digest: str | None) -> Iterator[Path]:
    """Curves of trainings on today's episodes."""
    for path in sorted(root.glob("train/*/curve.csv")):
        config = _optional_json(path.parent / "model" / "config.json") or {}
        digest_then = config.get("datasets", {}).get("episodes")
        if digest is None or digest_then in (None, digest):
            yield path
