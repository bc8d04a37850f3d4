"""One MLflow run for a retraining, above those of its stages; MLflow that is down stops nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prefect.runtime import flow_run

from lerenet import layout
from lerenet.params import Params
from lerenet.registry.candidate import locked_data_md5
from lerenet.registry.gate import Verdict
from lerenet.tracking.runs import StageRun, stage_run

STAGE = "retrain"


@contextmanager
def retraining_run(params: Params, operator: str, folds: Sequence[str] = ()) -> Iterator[StageRun]:
    """The retraining's run, named as its flow run; stages that are started in the block are children of it.

    Once it ends it carries the hash of the data that were read. One that was killed is taken up again where data,
    folds, commit and store are the same, and closed otherwise.

    Raises:
        TrackingError: the store can never work; one that is down is a warning.
    """
    settings = {"data": layout.data_md5(), "folds": list(folds)}
    tags = {"operator": operator, "flow_run_id": flow_run.id or ""}
    out = layout.CHECKPOINTS / STAGE
    with stage_run(STAGE, "", out, params, settings=settings, tags=tags, name=flow_run.name or "") as run:
        with run.children():
            yield run
        run.set_tag("data", locked_data_md5())


def close_left(params: Params) -> None:
    """Close the run of a retraining that was killed after its last step, where there is nothing left to do."""
    StageRun(STAGE, "", {}, {}).give_up(params.experiment)


def note(run: StageRun, version: str, verdict: Verdict) -> None:
    """Say in the retraining's run what was decided, with the challenger's scores and its gain in points."""
    run.set_tag("version", version)
    run.set_tag("verdict", verdict.outcome)
    run.set_tag("verdict_reasons", "; ".join(verdict.reasons))
    run.log_metrics(verdict.scores)
    if verdict.gain is not None:
        run.log_metrics({name: getattr(verdict.gain, name) for name in ("gain", "low", "high")})
