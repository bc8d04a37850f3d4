"""Which models a sentence, a table or a figure is about."""

from __future__ import annotations

from lerenet.params import Params
from lerenet.report.load import FLOORS, Loaded, Model

REFERENCE = "lerenet"  # the recipe that the others are compared with
MATCHERS = ("matching_lerenet", "matching")  # floors that a trained model has to beat
MATCHER_LABELS = tuple(FLOORS[name] for name in MATCHERS)


def shown_model(loaded: Loaded, params: Params) -> Model | None:
    """The model that figures and panels show: the shipped cell's, else the first trained one."""
    ship = params.ship
    trained = [model for model in loaded.models if not model.floor]
    wanted = (ship.recipe, ship.backbone, ship.shots)
    same = [m for m in trained if (m.recipe, m.backbone, m.trained_shots) == wanted]
    return next(iter([*same, *trained]), None)


def compared_models(loaded: Loaded, params: Params) -> list[Model]:
    """The shown model and matching, as far as they were evaluated."""
    pair = (shown_model(loaded, params), loaded.model("matching"))
    return [model for model in pair if model is not None]


def of_its_shots(models: list[Model], shots: int) -> list[Model]:
    """The models to show for K shots: floors, and of each recipe and backbone what was trained with K.

    What was never trained with K is shown with the shots that it was trained with; its row says so.
    """
    trained = {(m.recipe, m.backbone) for m in models if m.trained_shots == shots}
    return [m for m in models if m.floor or m.trained_shots == shots or (m.recipe, m.backbone) not in trained]


def headline_models(loaded: Loaded, params: Params, shots: int) -> list[Model]:
    """The model that the sentences for K shots are about: the shown one, as the table for K shots has it."""
    shown = shown_model(loaded, params)
    if shown is None:
        return []
    return [
        model
        for model in of_its_shots(loaded.models, shots)
        if (model.recipe, model.backbone) == (shown.recipe, shown.backbone)
    ]
