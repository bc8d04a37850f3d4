"""One MLflow run a stage; the numbers are on disk first, so no tracker can lose or stop a training."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lerenet.files import write_json
from lerenet.layout import CHECKPOINTS
from lerenet.params import Params
from lerenet.tracking import datasets, moved, store
from lerenet.tracking.git import commit_text, git_state
from lerenet.tracking.machine import machine

log = logging.getLogger(__name__)

PARENT = "LERENET_PARENT_RUN"  # environment variable: runs of stages become children of this run
MAX_VALUE = 500  # characters of a parameter
UPLOAD_SECONDS = 30.0  # at least this long between two uploads of a running stage
BATCH = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits for one call


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys and short text; a long value is cut and carries its own digest."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
            continue
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        if len(text) > MAX_VALUE:
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            text = f"{text[: MAX_VALUE - 40]}... (cut; sha256 {digest})"
        flat[name] = text
    return flat


class StageRun:
    """What a stage may say about itself while it works.

    Every metric goes to ``.checkpoints/<stage>/<key>/metrics.jsonl`` at once and to MLflow in
    batches. When MLflow fails, the stage goes on and ``tracked`` is False at the end.
    """

    def __init__(
        self, stage: str, key: str, settings: Mapping[str, Any], tags: Mapping[str, str], name: str = ""
    ) -> None:
        self.stage, self.key = stage, key
        self.name = name or (f"{stage}@{key}" if key else stage)
        self.folder = CHECKPOINTS / stage / key if key else CHECKPOINTS / stage
        self.params = flatten(settings)
        self.tags = {
            "stage": stage,
            "key": key,
            "DVC_STAGE": os.environ.get("DVC_STAGE", ""),
            **git_state(),
            **tags,
        }
        if parent := os.environ.get(PARENT):
            self.tags["mlflow.parentRunId"] = parent
        self.tags["mlflow.source.git.commit"] = self.tags["git_commit"]
        self.run_id: str | None = None
        self.left: str | None = None  # the run of a killed attempt with which nothing goes on
        self.tracked = False
        self._uri = ""
        self._client: Any = None
        self._pending: list[tuple[str, float, int, int]] = []
        self._logged: set[tuple[str, int, str]] = set()
        self._artifacts: list[Path] = []
        self._datasets: list[tuple[str, str]] = []
        self._uploaded_at = time.monotonic()

    # -- what a stage calls ---------------------------------------------------------------------

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record ``values`` at ``step``; NaN and infinity become the tag ``nonfinite.<name>``."""
        now = int(time.time() * 1000)
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as handle:
            for name, value in values.items():
                number = float(value)
                if (name, step, repr(number)) in self._logged:
                    continue
                self._logged.add((name, step, repr(number)))
                kept = number if math.isfinite(number) else repr(number)
                handle.write(json.dumps({"name": name, "step": step, "value": kept, "time": now}) + "\n")
                self._queue(name, number, now, step)
        if time.monotonic() - self._uploaded_at > UPLOAD_SECONDS or len(self._pending) >= BATCH["metrics"]:
            self._upload()

    def log_artifact(self, path: Path) -> None:
        """Upload a file or a folder when the stage ends."""
        self._artifacts.append(Path(path))

    def set_dataset(self, name: str, digest: str) -> None:
        """Record a dataset that the stage read, one of `lerenet.tracking.datasets`.

        Raises:
            TrackingError: when ``digest`` is longer than MLflow's 36 characters.
        """
        datasets.check_digest(name, digest)
        self._datasets.append((name, digest))

    def set_tag(self, name: str, value: str) -> None:
        """Set a tag of the run; it is sent with the next upload."""
        self.tags[name] = value

    @contextmanager
    def children(self) -> Iterator[None]:
        """Inside the block, stages that this process starts record their runs as children of this one."""
        before = os.environ.get(PARENT)
        if self.tracked and self.run_id:
            os.environ[PARENT] = self.run_id
        try:
            yield
        finally:
            os.environ.pop(PARENT, None)
            if before is not None:
                os.environ[PARENT] = before

    # -- local side -----------------------------------------------------------------------------

    def _queue(self, name: str, number: float, now: int, step: int) -> None:
        if math.isfinite(number):
            self._pending.append((name, number, now, step))
            return
        log.warning("%s: %s is %s at step %d; recorded as a tag", self.name, name, number, step)
        self.tags[f"nonfinite.{name}"] = f"{number} at step {step}"

    def _identity(self) -> str:
        # Same settings and code: the numbers of an interrupted attempt still hold.
        seen = [self.params, self.tags["git_commit"], store.redacted(self._uri)]
        return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()

    def _resume(self) -> bool:
        """Take up an unfinished attempt of the same stage, key, settings and commit."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            attempt = json.loads((self.folder / "attempt.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            attempt = {}
        self.left = attempt.get("left")
        if attempt.get("identity") != self._identity():
            self.left = attempt.get("mlflow_run_id") or self.left
            (self.folder / "metrics.jsonl").unlink(missing_ok=True)
            return False
        for row in self._rows():
            self._logged.add((row["name"], row["step"], repr(float(row["value"]))))
        self.run_id = attempt.get("mlflow_run_id")
        return self.run_id is not None

    def _rows(self) -> Iterator[dict[str, Any]]:
        file = self.folder / "metrics.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:  # the line that a killed process was writing
                continue

    def _remember(self) -> None:
        said = {"mlflow_run_id": self.run_id, "identity": self._identity(), "left": self.left}
        write_json(self.folder / "attempt.json", said)

    # -- MLflow side ----------------------------------------------------------------------------

    def _guard(self, work: Callable[[], None]) -> None:
        """Do ``work`` on the tracker; a failure is a warning and ends tracking for this stage."""
        if not self.tracked:
            return
        try:
            with store.store_lock(self._uri):
                work()
        except Exception as error:
            self.tracked = False
            place = store.redacted(self._uri)
            reason = store.scrubbed((str(error).splitlines() or [type(error).__name__])[0], self._uri)
            log.warning(
                "%s: MLflow at %s failed (%s); numbers are kept in %s", self.name, place, reason, self.folder
            )

    def start(self, experiment: str) -> None:
        """Open the run, or the interrupted one again.

        Raises:
            TrackingError: when the store can never work; a server that is down only warns.
        """
        self._uri = store.tracking_uri()
        store.check_uri(self._uri)
        resumed = self._resume()
        if not store.reachable(self._uri):
            log.warning(
                "%s: no MLflow at %s; the stage runs untracked, its numbers are kept in %s",
                self.name,
                store.redacted(self._uri),
                self.folder,
            )
            self._remember()
            return
        self.tracked = True
        store.load()  # the slow import, outside the lock
        self._guard(lambda: self._open(experiment, resumed))
        self._remember()

    def _open(self, experiment: str, resumed: bool) -> None:
        self._client, experiment_id = store.connect(experiment, self._uri)
        self._close_left()
        if resumed and self._alive():
            self._client.update_run(self.run_id, status="RUNNING", name=self.name)
            return
        self.run_id = self._client.create_run(experiment_id, run_name=self.name, tags=self.tags).info.run_id
        self._pending = [
            (row["name"], float(row["value"]), row["time"], row["step"])
            for row in self._rows()
            if math.isfinite(float(row["value"]))
        ]
        self._send(params=self.params)

    def _alive(self) -> bool:
        """Whether the interrupted run is there; what ended it then is told no more."""
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(self.run_id)
        except MlflowException:
            return False
        if "error" in run.data.tags:
            self._client.delete_tag(self.run_id, "error")
        return bool(run.info.lifecycle_stage == "active")

    def _close_left(self) -> None:
        """Mark a run as killed that still stands as running; one of another store is left alone."""
        from mlflow.exceptions import MlflowException

        if self.left:
            with suppress(MlflowException):
                if self._client.get_run(self.left).info.status == "RUNNING":
                    self._client.set_terminated(self.left, status="KILLED")
            self.left = None

    def give_up(self, experiment: str) -> None:
        """Close the run of an attempt that was killed and that nothing goes on with; nothing where there is none."""
        attempt = self.folder / "attempt.json"
        self._uri = store.tracking_uri()
        if not attempt.exists() or not store.reachable(self._uri):
            return
        self.left = self.run_id if self._resume() else self.left
        self.tracked = True

        def close() -> None:
            self._client, _ = store.connect(experiment, self._uri)
            self._close_left()

        self._guard(close)
        if self.tracked:
            attempt.unlink()

    def _send(self, params: Mapping[str, str] = {}) -> None:
        """Send what waits, in calls of the size MLflow allows."""
        from mlflow.entities import Metric, Param, RunTag

        items: dict[str, list[Any]] = {
            "metrics": [Metric(*row) for row in self._pending],
            "params": [Param(name, value) for name, value in params.items()],
            "tags": [RunTag(name, value[:5000]) for name, value in self.tags.items()],
        }
        for kind, values in items.items():
            for first in range(0, len(values), BATCH[kind]):
                self._client.log_batch(self.run_id, **{kind: values[first : first + BATCH[kind]]})
        self._pending = []

    def _upload(self) -> None:
        self._uploaded_at = time.monotonic()
        self._guard(self._send)

    def finish(self, status: str) -> None:
        """Send everything that waits and close the run with MLflow's ``status``."""
        self._upload()
        self._guard(self._send_inputs)
        if status == "FINISHED":
            for path in self._artifacts:
                self._guard(lambda path=path: self._send_artifact(path))  # type: ignore[misc]
        self._guard(lambda: self._client.set_terminated(self.run_id, status=status))
        if status == "FINISHED" and (self.tracked or not self.run_id):  # else it may still stand as running
            (self.folder / "attempt.json").unlink(missing_ok=True)

    def _send_artifact(self, path: Path) -> None:
        """Upload a file or a folder in the place of what an attempt before uploaded.

        That is removed and not written into: a registered version may share its files (`lerenet.registry.links`).
        """
        folder = moved.local(self._client.get_run(self.run_id).info.artifact_uri)
        if folder is not None:
            before = folder / path.name
            shutil.rmtree(before) if before.is_dir() else before.unlink(missing_ok=True)
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), artifact_path=path.name)
        else:
            self._client.log_artifact(self.run_id, str(path))

    def _send_inputs(self) -> None:
        from mlflow.entities import DatasetInput

        inputs = [DatasetInput(datasets.MAKERS[name](digest)) for name, digest in self._datasets]
        if inputs:
            self._client.log_inputs(self.run_id, inputs)


@contextmanager
def stage_run(
    stage: str,
    key: str,
    out: Path,
    params: Params,
    *,
    settings: Mapping[str, Any],
    tags: Mapping[str, str] = {},
    name: str = "",
) -> Iterator[StageRun]:
    """Track one stage: ``with stage_run("train", cell.key, out, params, settings=...) as run``.

    Args:
        stage: Name of the stage, as in ``dvc.yaml``.
        key: Cell or split-backbone key; empty for a single stage.
        out: The stage's folder; ``run.json`` is written there when the block succeeds.
        params: The whole settings; its ``experiment`` names MLflow's experiment.
        settings: What of the settings this stage uses; flattened to MLflow parameters.
        tags: More tags for the run.
        name: Of the run in MLflow; ``STAGE@KEY`` when empty.

    Raises:
        TrackingError: the store can never work (before any work starts). A server that is down is
            a warning: the block runs, and ``run.json`` says ``"tracked": false``.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    run = StageRun(stage, key, settings, tags, name)
    run.start(params.experiment)
    try:
        yield run
    except BaseException as error:
        run.set_tag("error", f"{type(error).__name__}: {error}")
        run.finish("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    run.finish("FINISHED")
    value = {
        "mlflow_run_id": run.run_id,
        "stage": stage,
        "key": key,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock, 3),
        "tracked": run.tracked,
        "commit": commit_text(),
        "machine": machine(),
    }
    write_json(Path(out) / "run.json", value)
