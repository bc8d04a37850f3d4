"""Values, tables and where numbers come from, as the pages of the benchmarks write them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Value = Sequence[float]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))


def cell(value: Value) -> str:
    """A value with its interval."""
    middle, low, high = value
    return "-" if math.isnan(middle) else f"{middle:.1f} ({low:.1f} to {high:.1f})"


def signed(value: Value) -> str:
    """A change with its interval; nothing where a class has no such images."""
    return "-" if value is None else "{:+.1f} ({:+.1f} to {:+.1f})".format(*value)


def facts(found: Mapping[str, Any]) -> str:
    """Where the numbers come from."""
    kept = {
        name: found[name]
        for name in ("data", "seeds", "seed", "images", "good parts", "interval")
        if name in found
    }
    machine = ", ".join(str(found["machine"][name]) for name in ("cpu", "cores", "torch", "date"))
    return "; ".join([*(f"{name} {value}" for name, value in kept.items()), machine]) + "."
