"""Score every cell and the models without training on the frozen episodes, and write the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prefect import flow

from flows.runners import LOCAL
from flows.stages import mirror, publish
from lerenet import layout
from lerenet.metrics import NAMES


@flow(name="evaluation")
def evaluation(jobs: int = 1, force: bool = False, runner: str = LOCAL) -> list[str]:
    """Run the stages ``floors@…``, ``evaluate@…``, ``report`` and what they need."""
    done = mirror(["evaluation"], jobs, force, runner)
    rows = score_rows(layout.EVALUATE) + score_rows(layout.FLOORS)
    publish("evaluation", rows, "Scores in points of IoU with intervals, one row a model, split and shots")
    return done


def score_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of every ``summary.json`` inside ``folder``, scores rounded."""
    return [
        {name: row[name] for name in ("model", "split", "protocol", "shots", "episodes")}
        | {name: round(row[name], 2) for name in NAMES}
        for path in sorted(folder.glob("*/summary.json"))
        for row in json.loads(path.read_text(encoding="utf-8"))
    ]


if __name__ == "__main__":
    evaluation()
