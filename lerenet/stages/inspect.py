"""Stage ``inspect``: what the live model says of each image left out, and what that comes to for each class."""

from __future__ import annotations

import pandas as pd

from lerenet import layout, tracking
from lerenet.enrolment.curve import ALL, growth
from lerenet.enrolment.enrolled import CLASSES, CURVE, READINGS, enrolled_in
from lerenet.enrolment.verdicts import left_out, scores
from lerenet.files import atomic_dir, write_json
from lerenet.params import load_params

MEANS = ("iou", "pro", "auroc", "called", "false_calls", "reviews", "marked_good")


def run() -> None:
    """Write ``artifacts/inspect/``: ``counts.parquet``, ``summary.json``, ``metrics.json``."""
    params = load_params(layout.PARAMS)
    settings = params.enrolment
    with tracking.stage_run(
        "inspect", "", layout.INSPECT, params, settings={"enrolment": settings.model_dump()}
    ) as run:
        run.set_dataset("data", layout.data_md5()[:36])
        tables, summary = [], {}
        for one in enrolled_in(layout.ENROL / CLASSES):
            folder = layout.ENROL / CLASSES / one.name
            rows = left_out(pd.read_parquet(folder / READINGS), settings.false_calls, settings.reviews)
            tables.append(rows.assign(cls=one.name))
            summary[one.name] = {
                **scores(rows),
                "examples": len(one.examples),
                "good": len(one.good),
                "reader": one.reader,
                "curve": growth(
                    rows, pd.read_parquet(folder / CURVE), one.name, params.evaluation, params.seed
                ),
            }
        means = {
            name: sum(values) / len(values)
            for name in MEANS
            if (values := [row[name] for row in summary.values() if row[name] is not None])
        }
        with atomic_dir(layout.INSPECT) as out:
            pd.concat(tables, ignore_index=True).to_parquet(out / "counts.parquet", index=False)
            write_json(out / "summary.json", summary)
            write_json(out / "metrics.json", means)
        run.log_metrics(means)
        run.log_metrics(
            {f"class.{cls}.iou": row["iou"] for cls, row in summary.items() if row["iou"] is not None}
        )
        for cls, row in summary.items():
            for count, point in row["curve"].items():
                if count != ALL:
                    run.log_metrics({f"curve.{cls}": point["iou"]}, step=int(count))
        run.log_artifact(layout.INSPECT / "summary.json")
        run.log_artifact(layout.INSPECT / "counts.parquet")
