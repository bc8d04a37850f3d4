"""What each reader of the live model is worth: ``python -m benchmarks.readers`` in a project after stage ``enrol``.

From the readings that the stage keeps: every image of every class read by what was made without its fold. `served` is
the reader that the other folds' images chose, as stage ``inspect`` has it; without the shared head, too, and what that
gains on the same images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from benchmarks.enrolment import interval as decided
from benchmarks.results import machine
from lerenet import layout
from lerenet.enrolment.enrolled import CLASSES, READINGS
from lerenet.enrolment.readers import OF_ALL, READERS
from lerenet.enrolment.verdicts import episodes, left_out
from lerenet.evaluation.metrics import MIOU, miou
from lerenet.evaluation.resampling import interval, paired_bootstrap
from lerenet.files import write_json
from lerenet.params import EnrolmentSettings, load_params

SERVED, ALONE = "served", "served, without the shared head"


def readings() -> pd.DataFrame:
    """Of all classes, the class in a column."""
    paths = sorted((layout.ENROL / CLASSES).glob(f"*/{READINGS}"))
    return pd.concat(
        [pd.read_parquet(path).assign(cls=path.parent.name) for path in paths], ignore_index=True
    )


def served(rows: pd.DataFrame, settings: EnrolmentSettings) -> pd.DataFrame:
    """What the chosen readers say of every image, each class by itself."""
    parts = [
        left_out(part, settings.false_calls, settings.reviews).assign(cls=cls)
        for cls, part in rows.groupby("cls")
    ]
    return pd.concat(parts, ignore_index=True)


def scored(rows: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """mIoU of episodes with its interval, and the IoU of each class."""
    score = interval(rows, seed=seed)
    low, high = MIOU.bounds
    each = {str(cls): miou(part) for cls, part in rows.groupby("cls")}
    return {"mIoU": [score[MIOU.name], score[low], score[high]], "classes": each}


def main(
    out: Annotated[Path, typer.Option(help="JSON with every value.")] = Path(
        "artifacts/benchmarks/readers.json"
    ),
) -> None:
    """Compare the readers on the images that they were left out of; write and print it."""
    params = load_params(layout.PARAMS)
    rows = readings()
    defects = rows[rows["defect"]]
    parts = {reader: defects[defects["reader"] == reader] for reader in READERS}
    found = {reader: scored(episodes(part)) for reader, part in parts.items() if len(part)}
    without = rows[~rows["reader"].isin(OF_ALL)]
    all_of_it = served(rows, params.enrolment)
    alone, whole = (episodes(part[part["defect"]]) for part in (served(without, params.enrolment), all_of_it))
    found |= {ALONE: scored(alone), SERVED: scored(whole)}
    gain = paired_bootstrap(alone, whole)
    write_json(out, {
        "machine": machine(), "data": layout.data_md5(), "seed": params.seed, "images": rows["image"].nunique(),
        "settings": params.enrolment.model_dump(), "rows": found, "gain": [gain.gain, gain.low, gain.high],
        "class gain": gain.class_gain, "decisions": decided(all_of_it, params.seed),
    })  # fmt: skip
    for name, row in found.items():
        typer.echo("{}: {:.1f} ({:.1f} to {:.1f})".format(name, *row["mIoU"]))
    typer.echo(f"the shared head: {gain.gain:+.1f} ({gain.low:+.1f} to {gain.high:+.1f})")


if __name__ == "__main__":
    typer.run(main)
