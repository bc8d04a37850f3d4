"""Errors that a user can act on: what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class LerenetError(Exception):
    """An error whose message names the file or key, what is wrong and the remedy.

    Args:
        what: What is wrong, with the file's or key's name in it.
        remedy: What the reader can do about it; empty when ``what`` says it already.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}\n  -> {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class DataError(LerenetError):
    """Images, masks, archives or a catalogue that can't be used."""


class ParamsError(LerenetError):
    """An unknown, missing or out-of-range setting."""


class ModelError(LerenetError):
    """Weights or a model that can't be built or loaded."""


class TrainingError(LerenetError):
    """A training that can't go on."""


class TrackingError(LerenetError):
    """An MLflow store that can't be used."""


class PromotionError(LerenetError):
    """A promotion or rollback that is refused."""


def refuse(problems: Sequence[str], remedy: str) -> None:
    """Raise one DataError that lists the first 20 problems; none: return."""
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise DataError(f"{len(problems)} files can't be used:\n{shown}{more}", remedy)
