"""The paper's tables on our data: a section a table, once its cells were evaluated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lerenet.paper.printed import BACKBONES, PrintedRow, printed
from lerenet.params import NOVEL, Params, TableSettings
from lerenet.report.choose import MATCHERS, REFERENCE, of_its_shots
from lerenet.report.intervals import ALL, Gain, Intervals
from lerenet.report.load import FLOORS, Loaded, Model
from lerenet.report.schedule import Schedule, schedule
from lerenet.report.tables import NUMBERED, CleanRow, MainRow

TITLES = {
    2: "Table 2: LERENet, Baseline and seven peers",
    3: "Table 3: what MPR, MPE and the edge information bring",
    4: "Table 4: ResNet101",
    6: "Table 6: with and without pretraining",
    7: "Table 7: losses",
}
PEERS = {
    "asgnet": "ASGNet",
    "bam": "BAM",
    "canet": "CANet",
    "dcp": "DCP",
    "hdmnet": "HDMNet",
    "pfenet": "PFENet",
    "tgrnet": "TGRNet",
}
NAMES = {"lerenet": "LERENet", "baseline": "Baseline", **PEERS}
METHODS = {  # as the paper's tables name the recipes
    2: {**NAMES, **{f"{recipe}_official": f"{name}, official" for recipe, name in PEERS.items()}},
    4: NAMES,
    3: {
        "none": "none: D_cos alone",
        "mpr": "MPR",
        "mpe": "MPE",
        "mpe_star": "MPE*",
        "mpr_mpe": "MPR+MPE",
        "lerenet": "MPR+MPE*",
    },
    6: {"lerenet": "pretrained on the base classes", "no_pretraining": "not pretrained"},
}
OWN = ("LERENet", "Baseline")  # of the paper's Table 4; the others' rows are below, whole
ANY_BACKBONE = "all_foreground"  # what stands above each table, with the floors of its backbones
OVER = ("over LERENet's features", "over matching")  # columns of differences, as in MATCHERS
BESIDE = tuple(FLOORS[name] for name in ("prototype", *MATCHERS))


@dataclass(frozen=True)
class TableRow:
    """A row of the main table with its place in a table of the paper."""

    method: str
    note: str  # recipe, backbone and seeds, as far as the method's name does not say them
    main: MainRow
    clean: CleanRow | None
    schedule: Schedule | None  # None for a floor
    over_reference: Gain | None
    over_matching: tuple[Gain | None, ...]  # as OVER names them


@dataclass(frozen=True)
class Section:
    """One table of the paper: our rows by number of shots, the printed ones likewise, where there are any."""

    number: int
    title: str
    rows: dict[int, list[TableRow]]
    printed: dict[int, list[PrintedRow]]


def sections(
    loaded: Loaded,
    params: Params,
    mains: dict[int, list[MainRow]],
    clean: list[CleanRow],
    intervals: Intervals,
) -> list[Section]:
    """The tables whose cells are there, of the rows that were computed.

    A table shows when a recipe was evaluated that the summary does not name, or, where it names all
    of them, when two rows were (one, where the table has only one).
    """
    shown = []
    for name in sorted(params.tables):
        matched = NUMBERED.fullmatch(name)
        number = int(matched[1]) if matched else 0
        if number in TITLES:
            rows = {
                shots: _rows(number, models, shots, _Computed(loaded, params, mains[shots], clean, intervals))
                for shots, models in _there(number, name, loaded, params).items()
            }
            shown += (
                [Section(number, TITLES[number], rows, _printed(number, rows, loaded.question))]
                if rows
                else []
            )
    return shown


@dataclass(frozen=True)
class _Computed:
    """What the rows of one number of shots are made of."""

    loaded: Loaded
    params: Params
    mains: list[MainRow]
    clean: list[CleanRow]
    intervals: Intervals


def _there(number: int, name: str, loaded: Loaded, params: Params) -> dict[int, list[Model]]:
    """Shots to the models of a table, where enough of it was evaluated to show it."""
    table = params.tables[name]
    by_shots = {k: _models(number, name, loaded, params, k) for k in loaded.shots if k in table.shots}
    return {shots: models for shots, models in by_shots.items() if _is_there(models, table, params)}


def _printed(number: int, shown: Iterable[int], question: str) -> dict[int, list[PrintedRow]]:
    """Nothing beside known classes: the paper asks about novel ones."""
    if question != NOVEL:
        return {}
    return {
        shots: [row for row in printed() if row.table == number and row.shots == shots and _ours(row)]
        for shots in shown
    }


def _is_there(models: list[Model], table: TableSettings, params: Params) -> bool:
    elsewhere = params.tables["summary"].recipes if "summary" in params.tables else ()
    own = set(table.recipes) - set(elsewhere)
    trained = [model.recipe for model in models if not model.floor]
    return bool(own & set(trained)) if own else len(trained) >= min(2, len(table.recipes))


def _ours(row: PrintedRow) -> bool:
    return row.table != 4 or row.method in OWN


def _models(number: int, name: str, loaded: Loaded, params: Params, shots: int) -> list[Model]:
    """The floors and trained models of a table: of any backbone, but Table 4's stand in Table 4 alone."""
    tables = params.tables
    apart = tables["table4"].backbones if "table4" in tables else ()
    trained = [
        model
        for model in of_its_shots(loaded.models, shots)
        if model.recipe in tables[name].recipes
        and (number not in (2, 4) or (model.backbone in apart) == (number == 4))
        and not loaded.counts_of(model.id, shots).empty
    ]
    backbones = {model.backbone for model in trained}
    beside = [m for m in loaded.models if m.label in BESIDE and m.backbone in backbones]
    floors = [m for m in loaded.models if m.id == ANY_BACKBONE or m in beside]
    order = {recipe: place for place, recipe in enumerate(tables[name].recipes)}
    return [*floors, *sorted(trained, key=lambda m: (m.backbone, order[m.recipe]))]


def _rows(number: int, models: list[Model], shots: int, computed: _Computed) -> list[TableRow]:
    mains = {row.model.id: row for row in computed.mains}
    clean = {row.model.id: row for row in computed.clean if row.shots == shots}
    return [
        TableRow(
            (method := _method(number, model, computed.params)),
            _note(model, method, shots),
            mains[model.id],
            clean.get(model.id),
            None if model.floor else schedule(computed.loaded, model),
            _gain(computed.intervals, _peer(models, model, REFERENCE), model, shots),
            tuple(_gain(computed.intervals, _peer(models, model, floor), model, shots) for floor in MATCHERS),
        )
        for model in models
        if model.id in mains
    ]


def _method(number: int, model: Model, params: Params) -> str:
    if model.floor:
        return model.label
    if number == 7:
        return params.train_settings(model.recipe).loss
    return METHODS.get(number, {}).get(model.recipe, model.label)


def _note(model: Model, method: str, shots: int) -> str:
    if model.floor:
        return "" if model.id == ANY_BACKBONE else model.backbone
    trained = f"trained with {model.trained_shots} shot" if model.trained_shots != shots else ""
    seeds = f"seed{'s' * (len(model.seeds) > 1)} {', '.join(map(str, model.seeds))}"
    recipe = model.recipe if method.lower() != model.recipe else ""
    return ", ".join(part for part in (recipe, model.backbone, trained, seeds) if part)


def _peer(models: list[Model], model: Model, name: str) -> Model | None:
    """The row of the recipe or floor ``name`` with the backbone of ``model``."""
    wanted = FLOORS.get(name, name)  # a recipe's label is its name
    same = [m for m in models if m.backbone == model.backbone and m.label == wanted]
    return same[0] if same else None


def _gain(intervals: Intervals, champion: Model | None, model: Model, shots: int) -> Gain | None:
    return None if champion is None else intervals.gains.get((champion.id, model.id, shots, ALL))


def beside(loaded: Loaded, shots: int) -> list[PrintedRow]:
    """What stands below the main table: LERENet and Baseline with the grid's backbones.

    A backbone that the paper does not use is answered with its ResNet50 rows.
    """
    used = {BACKBONES[m.backbone] for m in loaded.models if m.backbone in BACKBONES} or {"ResNet50"}
    return [
        row
        for row in printed()
        if row.table in (2, 4)
        and row.shots == shots
        and row.backbone in used
        and row.method in ("LERENet", "Baseline")
    ]
