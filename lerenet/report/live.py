"""The live model's classes: what it says of their images, each left out, and what the next example would buy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lerenet.enrolment.curve import ALL


@dataclass(frozen=True)
class Point:
    """IoU of a class with its interval, read with ``count`` examples; ``ALL`` is all of them."""

    count: str
    iou: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The value alone."""
        return f"{self.iou:.1f}"

    @property
    def interval(self) -> str:
        """Its ends."""
        return f"{self.low:.1f} to {self.high:.1f}"


@dataclass(frozen=True)
class LiveRow:
    """One class, as stage ``inspect`` has it; shares in percent, None where nothing was asked."""

    cls: str
    examples: int
    good: int
    reader: str
    pro: float | None
    auroc: float | None
    called: float | None
    false_calls: float | None
    false_calls_high: float | None
    missed: Mapping[str, float | None]
    curve: tuple[Point, ...]

    @property
    def all(self) -> Point | None:
        """With all examples."""
        return next((point for point in self.curve if point.count == ALL), None)

    def cells(self) -> list[str]:
        """As tables print it, after the class and its IoU."""
        high = "" if self.false_calls_high is None else f" (at most {self.false_calls_high:.0f})"
        sizes = ", ".join(f"{value:.0f} {name}" for name, value in self.missed.items() if value is not None)
        return [
            str(self.examples), str(self.good), self.reader, _share(self.pro), _share(self.auroc),
            _share(self.called), _share(self.false_calls) + high, sizes or "-",
        ]  # fmt: skip


HEAD = ("examples", "good parts", "reader", "per-region overlap", "AUROC", "defects called %",
        "good parts called %", "missed %, by size")  # fmt: skip


def live_rows(summary: Mapping[str, Any]) -> list[LiveRow]:
    """The rows of ``inspect/summary.json``."""
    names = [field.name for field in fields(LiveRow) if field.name not in ("cls", "curve")]
    return [
        LiveRow(cls=cls, **{name: row[name] for name in names}, curve=points(row["curve"]))
        for cls, row in summary.items()
    ]


def points(curve: Mapping[str, Mapping[str, float]]) -> tuple[Point, ...]:
    """Of `lerenet.enrolment.curve.growth`, by the number of examples."""
    order = counts([[Point(count, **point) for count, point in curve.items()]])
    return tuple(Point(count, **curve[count]) for count in order)


def counts(curves: Iterable[Sequence[Point]]) -> list[str]:
    """The numbers of examples on any curve, in order, ``ALL`` last."""
    found = {point.count for curve in curves for point in curve}
    return sorted(found - {ALL}, key=int) + [ALL] * (ALL in found)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
