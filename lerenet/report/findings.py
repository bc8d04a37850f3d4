"""Each trained model against the matchers that need no training, on the same episodes."""

from __future__ import annotations

from dataclasses import dataclass

from lerenet.params import Params
from lerenet.report.choose import MATCHER_LABELS, headline_models
from lerenet.report.intervals import ALL, Gain, Intervals
from lerenet.report.load import Loaded, Model


@dataclass(frozen=True)
class Finding:
    """One model against a matcher that needs no training, paired on the same episodes."""

    model: Model
    floor: Model
    shots: int
    gain: Gain

    @property
    def verdict(self) -> str:
        """``above``, ``below`` or ``undecided``: on which side of zero the interval lies."""
        if self.gain.low > 0:
            return "above"
        return "below" if self.gain.high < 0 else "undecided"

    @property
    def sentence(self) -> str:
        """The finding in words."""
        point = f"{abs(self.gain.gain):.1f} points"
        where = f"{self.gain.challenger:.1f} against {self.gain.champion:.1f} mIoU"
        bounds = f"{self.gain.low:+.1f} to {self.gain.high:+.1f}"
        interval = f"{100 * self.gain.confidence:.0f} % interval of the difference {bounds}"
        floor = self.floor.label.replace("Matching, LERENet's", "matching of LERENet's").replace(
            "Matching", "matching"
        )
        said = {
            "above": f"is {point} above {floor}, which needs no training",
            "below": f"is {point} below {floor}, which needs no training: nothing was gained by training it",
            "undecided": f"can't be told apart from {floor}, which needs no training",
        }[self.verdict]
        folds = "" if self.gain.folds == self.gain.of else f", {self.gain.folds} of {self.gain.of} folds"
        images = f"{self.shots} support image{'s' * (self.shots > 1)}"
        return f"With {images}, {self.model.id} {said} ({where}; {interval}{folds})."


def headline(every: list[Finding], loaded: Loaded, params: Params) -> list[Finding]:
    """The findings about what ships, of each number of shots as its table has it."""
    return [one for one in every if one.model in headline_models(loaded, params, one.shots)]


def findings(loaded: Loaded, intervals: Intervals) -> list[Finding]:
    """Each trained model against the matchers with the same backbone, on the folds that both have."""
    every = []
    for model in (m for m in loaded.models if not m.floor):
        matchers = [m for m in loaded.models if m.label in MATCHER_LABELS and m.backbone == model.backbone]
        floors = sorted(matchers, key=lambda m: MATCHER_LABELS.index(m.label))
        for shots in loaded.shots:
            for floor in floors:
                gain = intervals.gains.get((floor.id, model.id, shots, ALL))
                every += [] if gain is None else [Finding(model, floor, shots, gain)]
    return every
