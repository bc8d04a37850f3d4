"""Index and validate the data, make class-disjoint folds and freeze the evaluation episodes."""

from __future__ import annotations

import json
from typing import Any

from prefect import flow

from flows.runners import LOCAL
from flows.stages import mirror, publish
from lerenet import layout


@flow(name="fold-splitting")
def fold_splitting(jobs: int = 2, force: bool = False, runner: str = LOCAL) -> list[str]:
    """Run the stages ``catalog``, ``validate``, ``folds`` and ``validate_folds``."""
    done = mirror(["folds"], jobs, force, runner)
    publish("folds", fold_rows(), "Classes of each split: base (trained on), validation, novel (tested)")
    return done


def fold_rows() -> list[dict[str, Any]]:
    """One row a split."""
    path = layout.FOLDS / "folds.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    roles = ("base", "validation", "novel")
    return [
        {
            "split": split,
            **{role: ", ".join(classes.get(role, [])) for role in roles},
            "digest": found["digest"],
        }
        for split, classes in found["splits"].items()
    ]


if __name__ == "__main__":
    fold_splitting()
