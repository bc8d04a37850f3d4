"""The settings of a run: one file, ``params.yaml``, checked key by key before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lerenet.errors import ParamsError
from lerenet.yaml_file import parse_yaml

Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Fold = Literal["fold0", "fold1", "fold2"]
Known = Literal["known0", "known1", "known2", "known3"]  # every class is trained on, these groups are not
SplitName = Literal["fold0", "fold1", "fold2", "all"]
NOVEL, KNOWN = "novel", "known"
QUESTIONS: Mapping[str, tuple[str, ...]] = {NOVEL: get_args(Fold), KNOWN: get_args(Known)}  # and their folds
Level = Annotated[int, Field(ge=0, le=4)]
Positive = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=0, le=8000)]  # pixels
Share = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """Base of every section: unknown keys are refused, values can't be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainSettings(Settings):
    """Episodic training (network.md, "Training")."""

    epochs: Positive = 8
    episodes_per_epoch: Annotated[int, Field(ge=0)] = 0  # 0: one pass over the base images as queries
    batch: Positive = 8
    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    momentum: Share = 0.9
    poly_power: Annotated[float, Field(ge=0)] = 0.9
    backbone_lr_scale: Annotated[float, Field(ge=0)] = 0.0  # 0: frozen, features cached
    loss: Literal["bce", "focal", "dice", "bce_dice"] = "dice"
    clean_share: Share = 0.1  # of the queries, clean images
    episodes_per_query: Annotated[int, Field(ge=0)] = 8  # different ones of each image; 0: new ones each time
    elect: Literal["surely_better", "best"] = "surely_better"  # against weights that work untrained
    watch: Annotated[int, Field(ge=0)] = 0  # epochs between scores on the test episodes, for the curve alone
    max_bad_steps: Positive = 3  # consecutive non-finite losses before the run stops


class Recipe(Settings):
    """A named way to make a model: network, its own training settings, pretrained or not.

    What ``model`` may hold beside the network's ``name``, the network says (`lerenet.models.config`).
    """

    model: dict[str, Any] = {"name": "lerenet"}
    train: dict[str, Any] = {}
    pretrained: bool = True  # False: the backbone's initial weights (Table 6)


class GridSettings(Settings):
    """What `dvc repro` runs: the product of these lists."""

    folds: tuple[Fold | Known, ...] = ("fold0", "fold1", "fold2")
    splits: tuple[SplitName | Known, ...] = ("fold0", "fold1", "fold2", "all")
    backbones: tuple[Name, ...] = ("efficientnet_lite0",)
    recipes: tuple[Name, ...] = ("lerenet",)
    shots: tuple[Positive, ...] = (1,)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)


class TableSettings(Settings):
    """The cells of one table of the paper (or of the summary): the product of these lists.

    `python -m flows.tables NAME` runs them as an experiment of DVC whose ``grid`` they are.
    """

    recipes: Annotated[tuple[Name, ...], Field(min_length=1)]
    backbones: Annotated[tuple[Name, ...], Field(min_length=1)] = ("efficientnet_lite0",)
    folds: Annotated[tuple[Fold | Known, ...], Field(min_length=1)] = (*get_args(Fold), *get_args(Known))
    shots: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1,)
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)


class ShipSettings(Settings):
    """The cell of the grid whose model is trained on every class and registered."""

    backbone: Name = "efficientnet_lite0"
    recipe: Name = "lerenet"
    shots: Positive = 1
    seed: Annotated[int, Field(ge=0)] = 0


class EpisodeSettings(Settings):
    """Frozen evaluation episodes."""

    shots: tuple[Annotated[int, Field(ge=1, le=5)], ...] = (1, 5)
    per_query: Positive = 2
    validation_classes: Positive = 2


class ViewSettings(Settings):
    """Augmented views of each training image; they are made once and their features cached."""

    count: Annotated[int, Field(ge=0, le=64)] = 3
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.1  # 1 - scale to 1 + scale
    rotation: Annotated[float, Field(ge=0, le=180)] = 10.0  # degrees
    blur: Share = 0.5  # probability
    flip: Share = 0.5  # probability


class PretrainSettings(Settings):
    """Supervised segmentation of the base classes; 0 epochs keeps the initial weights."""

    epochs: Annotated[int, Field(ge=0)] = 1
    batch: Positive = 8
    lr: Annotated[float, Field(gt=0)] = 1e-3
    max_bad_steps: Positive = 3  # consecutive non-finite losses before the run stops


class EvaluationSettings(Settings):
    """The intervals of the scores."""

    draws: Positive = 10_000  # resamplings of the episodes
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95


class ValidationSettings(Settings):
    """What the data must satisfy before anything is trained on them."""

    min_foreground: Share = 0.0001
    max_foreground: Share = 0.95
    min_images: Positive = 6
    min_groups: Annotated[int, Field(ge=2)] = 2
    near_duplicate_bits: Annotated[int, Field(ge=0, le=32)] = 2
    min_side: Positive = 16  # pixels


class GateSettings(Settings):
    """The promotion gate; all in points (0 to 100)."""

    min_gain: float = 0.0
    max_class_drop: Annotated[float, Field(ge=0)] = 10.0
    max_novel_drop: Annotated[float, Field(ge=0)] = 0.5  # in mIoU on novel classes, where it is a sure one
    max_drop: dict[Name, Annotated[float, Field(ge=0)]] = {
        "fb_iou": 1.0
    }  # of other metrics than mIoU, by name
    max_false_calls: Annotated[float, Field(ge=0)] = 2.0  # by which good parts called NG may rise
    max_latency_ms: Annotated[float, Field(gt=0)] = 1000.0
    draws: Positive = 10_000
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95


class EnrolmentSettings(Settings):
    """What the live model learns of each class, and where it calls an image."""

    folds: Annotated[int, Field(ge=2, le=20)] = 4  # of groups; each is read by what was made without it
    budget: Positive = 2000  # places of each kind that a class remembers
    curve: tuple[Positive, ...] = (1, 2, 5, 10, 20)  # numbers of examples of the learning curve
    steps: Annotated[int, Field(ge=0)] = 150  # of fitting a head to a class; 0: none, classes are matched
    shared: Annotated[int, Field(ge=0)] = 20  # epochs of the heads that all classes share; 0: none
    sides: dict[
        str, Side
    ] = {}  # of squares that a class's pictures are cut into, in pixels; 0: none; else chosen
    false_calls: Share = 0.02  # of good parts that may be called NG
    reviews: Share = 0.1  # of good parts that a person may be asked about


class DriftSettings(Settings):
    """When the images that came to a class count as shifted, and what the retraining then does."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.01  # of the corrected p-value
    min_ks: Share = 0.3  # smaller differences don't matter, however sure
    min_distance: Annotated[float, Field(ge=0)] = 0.5  # of mean embeddings, in units of the spread
    action: Literal["warn", "block"] = "warn"


class Params(Settings):
    """All of ``params.yaml``."""

    seed: Annotated[int, Field(ge=0)] = 0
    image_size: Annotated[int, Field(ge=32, le=1024)] = 200
    init: Annotated[str, Field(min_length=1)] = "imagenet"  # imagenet, random or a weights file
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = (1, 2, 3, 4)  # of the backbone, cached
    precision: Literal["bf16", "fp32"] = "bf16"  # of the networks; bf16: where the device has it
    grid: GridSettings = GridSettings()
    ship: ShipSettings = ShipSettings()
    validation: ValidationSettings = ValidationSettings()
    episodes: EpisodeSettings = EpisodeSettings()
    views: ViewSettings = ViewSettings()
    pretrain: PretrainSettings = PretrainSettings()
    train: TrainSettings = TrainSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    recipes: dict[Name, Recipe] = {"lerenet": Recipe()}
    tables: dict[Name, TableSettings] = {}
    enrolment: EnrolmentSettings = EnrolmentSettings()
    drift: DriftSettings = DriftSettings()
    gate: GateSettings = GateSettings()
    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "lerenet"

    @model_validator(mode="after")
    def _known_recipes(self) -> Params:
        for used in (*self.grid.recipes, self.ship.recipe):
            if used not in self.recipes:
                raise ValueError(f"recipe {used!r} is used but not defined under 'recipes'")
        for table, settings in self.tables.items():
            for used in settings.recipes:
                if used not in self.recipes:
                    raise ValueError(f"tables.{table}: recipe {used!r} is not defined under 'recipes'")
        for name in self.recipes:
            self.train_settings(name)
        return self

    def train_settings(self, recipe: str) -> TrainSettings:
        """``train`` with the recipe's own values over it."""
        return TrainSettings.model_validate({**self.train.model_dump(), **self.recipes[recipe].train})


def explain(error: ValidationError, settings: type[Settings]) -> str:
    """What is wrong with each key of ``settings``, and what is allowed."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "(top level)"
        message = item["msg"].removeprefix("Value error, ")
        got = "" if item["type"] in {"extra_forbidden", "value_error"} else f" (got {item['input']!r})"
        allowed = ""
        if item["type"] == "extra_forbidden":
            message, allowed = "unknown key", _allowed(item["loc"], settings)
        lines.append(f"{key}: {message}{got}{allowed}")
    return "; ".join(lines)


def _allowed(location: tuple[int | str, ...], settings: type[Settings]) -> str:
    section: Any = settings
    for part in location[:-1]:
        section = _inside(section, part)
    fields = getattr(_bare(section), "model_fields", {})
    names = sorted(field.alias or name for name, field in fields.items())
    return f"; allowed: {', '.join(names)}" if names else ""


def _inside(kind: Any, part: int | str) -> Any:
    """The type of what lies under ``part`` of a section, a list or a mapping; None: unknown."""
    kind = _bare(kind)
    if fields := getattr(kind, "model_fields", None):
        return next((field.annotation for name, field in fields.items() if part in (name, field.alias)), None)
    return next((inner for inner in reversed(get_args(kind)) if inner is not Ellipsis), None)


def _bare(kind: Any) -> Any:
    """A type without what may stand around it: ``| None``, ``Annotated``."""
    while get_origin(kind) in (Annotated, Union, UnionType):
        kind = get_args(kind)[0]
    return kind


def load_params(path: Path) -> Params:
    """Read and check ``params.yaml``.

    Raises:
        ParamsError: the file is missing, is not YAML, or a key is unknown or out of range; the
            message names the key and what is allowed.
    """
    try:
        raw = parse_yaml(Path(path).read_text(encoding="utf-8"), aliases=True) or {}
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: not found", "run in the project's folder, beside params.yaml") from error
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {error}", "mend the line it names") from error
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ParamsError(f"{path}: {explain(error, Params)}", "correct the key in params.yaml") from error
