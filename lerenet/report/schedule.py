"""How long each model was trained, beside the paper's schedule."""

from __future__ import annotations

from dataclasses import dataclass

from lerenet.params import Params
from lerenet.report.choose import headline_models
from lerenet.report.load import Loaded, Model

PAPER_EPOCHS = 200


@dataclass(frozen=True)
class Schedule:
    """What a row's trainings were: epochs (of its cells the fewest and the most), folds, initial weights."""

    epochs: tuple[int, int] | None  # None when no curve is there
    kept: tuple[int, ...]  # of each cell the epoch whose weights it kept; 0: the initial ones
    folds: int
    of: int  # so many folds
    init: str

    @property
    def epochs_text(self) -> str:
        """``3`` or ``1 to 3``."""
        if self.epochs is None:
            return "–"
        low, high = self.epochs
        return str(low) if low == high else f"{low} to {high}"

    @property
    def kept_text(self) -> str:
        """Each cell's kept epoch, ``0, 0, 3``."""
        return ", ".join(map(str, self.kept))

    @property
    def short(self) -> str:
        """In what it is less than the paper's schedule; empty when in nothing."""
        parts = []
        if self.epochs is not None and self.epochs[0] < PAPER_EPOCHS:
            parts.append(f"{self.epochs_text} epochs instead of {PAPER_EPOCHS}")
        if self.folds < self.of:
            parts.append(f"{self.folds} of {self.of} folds")
        if self.init == "random":
            parts.append("a backbone that began with random weights")
        return ", ".join(parts)


def schedule(loaded: Loaded, model: Model) -> Schedule:
    """The schedule of one row, read from its curves."""
    cells = loaded.cells_of(model)
    epochs = [int(loaded.curves[cell.key]["epoch"].max()) for cell in cells if cell.key in loaded.curves]
    inits = sorted({loaded.inits[cell.key] for cell in cells})
    folds = len({cell.split for cell in cells})
    kept = tuple(loaded.kept[cell.key] for cell in cells if cell.key in loaded.kept)
    reached = (min(epochs), max(epochs)) if epochs else None
    return Schedule(reached, kept, folds, len(loaded.folds_asked), ", ".join(inits))


def kept_sentences(loaded: Loaded, params: Params) -> list[str]:
    """What of the headline's models is not owed to training, because cells kept their initial weights."""
    models = {m.id: m for shots in loaded.shots for m in headline_models(loaded, params, shots)}
    sentences = []
    for model in models.values():
        kept = schedule(loaded, model).kept
        if initial := kept.count(0):
            sentences.append(
                f"{model.id} kept its initial weights in {initial} of {len(kept)} trainings, for no epoch was "
                "better on held-out classes: there nothing is owed to training. What it gains over matching of "
                "LERENet's features is owed to its modules, the rest to those features."
            )
    return sentences


def short_runs(loaded: Loaded) -> list[tuple[Model, str]]:
    """The trained models that had less than the paper's schedule, and what they had."""
    runs = [(model, schedule(loaded, model).short) for model in loaded.models if not model.floor]
    return [(model, text) for model, text in runs if text]
