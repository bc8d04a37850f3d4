"""MLflow: one run a stage (`stage_run`), and the model registry (`lerenet.tracking.registry`)."""

from lerenet.tracking.runs import StageRun, stage_run

__all__ = ["StageRun", "stage_run"]
