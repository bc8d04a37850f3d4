"""Each trained model against matching, the floor that needs no training, on the same episodes."""

from __future__ import annotations

from dataclasses import dataclass

from lerenet.params import Params
from lerenet.report.intervals import Gain, gain_over
from lerenet.report.load import FOLD_NAMES, Loaded, Model


@dataclass(frozen=True)
class Finding:
    """One model against the untrained matching, paired on the same episodes."""

    model: Model
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
        said = {
            "above": f"is {point} above matching, which needs no training",
            "below": f"is {point} below matching, which needs no training: the training does harm here",
            "undecided": "can't be told apart from matching, which needs no training",
        }[self.verdict]
        folds = (
            "" if self.gain.folds == len(FOLD_NAMES) else f", {self.gain.folds} of {len(FOLD_NAMES)} folds"
        )
        images = f"{self.shots} support image{'s' * (self.shots > 1)}"
        return f"With {images}, {self.model.id} {said} ({where}; {interval}{folds})."


def findings(loaded: Loaded, params: Params, shots: int | None = None) -> list[Finding]:
    """Each trained model against matching with the same backbone, on the folds that both have."""
    found = []
    for model in (m for m in loaded.models if not m.floor):
        floor = next(
            (m for m in loaded.models if m.floor and m.label == "Matching" and m.backbone == model.backbone),
            None,
        )
        for k in loaded.shots if shots is None else [shots]:
            if floor is None:
                continue
            finding = _finding(loaded, model, floor, k, params)
            found += [finding] if finding else []
    return found


def _finding(loaded: Loaded, model: Model, floor: Model, shots: int, params: Params) -> Finding | None:
    gain = gain_over(loaded, floor, model, shots, params)
    return None if gain is None else Finding(model, shots, gain)
