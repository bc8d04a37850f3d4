"""MLflow: the store, and one run a stage (`stage_run`)."""

from lerenet.tracking.runs import StageRun, stage_run

__all__ = ["StageRun", "stage_run"]
