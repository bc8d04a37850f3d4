"""The only module that starts DVC: its commands as processes that end with their flow, and never in the middle.

Another command's lock is waited for, and a ``dvc.lock`` that a kill has torn is mended.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prefect.logging import get_run_logger

from lerenet.errors import ParamsError
from lerenet.files import atomic_dir
from lerenet.tracking.git import git

LOCKED = ("Unable to acquire lock", "is busy, it is being blocked by", "Lock is held by")
TORN = ("'./dvc.lock' validation failed", "'./dvc.lock' is invalid")
WRITING_SECONDS = 5.0  # DVC needs one at most to write dvc.lock
GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL
NONE: Mapping[str, str] = MappingProxyType({})


class StageError(RuntimeError):
    """A DVC command that failed; the message holds the end of its output."""


class StageLocked(StageError):
    """A DVC command that met another one's lock; it is tried again."""


class Cancelled(RuntimeError):
    """A stage that was not started, or was ended, because its flow was cancelled."""


def refuse_inside_dvc() -> None:
    """Refuse to drive DVC from inside a DVC stage.

    Raises:
        RuntimeError: when ``DVC_STAGE`` is set.
    """
    stage = os.environ.get("DVC_STAGE")
    if stage:
        raise RuntimeError(
            f"this flow starts DVC and was started by DVC's stage {stage!r}: "
            "call it from a shell or from Prefect, never from dvc.yaml"
        )


class Children:
    """The DVC processes under way, each with its own session, so that a whole group can be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    @contextmanager
    def start(
        self, words: Sequence[str], folder: Path | None = None, variables: Mapping[str, str] = NONE
    ) -> Iterator[subprocess.Popen[str]]:
        """Start a command in a folder; when the block ends, in whatever way, nothing of its group is left."""
        with self._lock:
            if self._stopped:
                raise Cancelled(f"{' '.join(words)}: the flow was cancelled")
            child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", env={**_environment(), **variables}, cwd=folder, start_new_session=True,
            )  # fmt: skip
            self._running.add(child)
        try:
            yield child
        finally:
            _end(child)
            if child.stdout is not None:
                child.stdout.close()
            with self._lock:
                self._running.discard(child)

    def stop(self) -> None:
        """End every group and start no more until `reset`."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for child in running:
            _signal(child, signal.SIGTERM)
        for child in running:
            _end(child)

    def reset(self) -> None:
        """Allow starts again."""
        with self._lock:
            self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped


CHILDREN = Children()


def stop_children() -> None:
    """`Children.stop` by a name that a worker can import."""
    CHILDREN.stop()


def reset_children() -> None:
    """`Children.reset` by a name that a worker can import."""
    CHILDREN.reset()


def _environment() -> dict[str, str]:
    tools = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}", "PYTHONUNBUFFERED": "1"}


def _signal(child: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Signal the child's whole group; False when no process of it is left."""
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _end(child: subprocess.Popen[str]) -> None:
    """Wait for a child that was told to stop; kill what is left of its group."""
    if child.poll() is None and _signal(child, signal.SIGTERM):
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
    _signal(child, signal.SIGKILL)
    child.wait()


def without_log_in(line: str) -> str:
    """A line of DVC's with the user part of addresses taken out: a remote's may hold a password."""
    return re.sub(r"(\w+://)[^\s/]*@", r"\1", line)


def run_dvc(*words: str, folder: Path | None = None, variables: Mapping[str, str] = NONE) -> str:
    """Run ``dvc WORDS`` in ``folder`` (the current one), its lines to the log, and return its output.

    It waits for another command's lock of the project: a stage that ended without it would not be recorded, and run
    again. DVC writes ``dvc.lock`` in place, so one that was killed meanwhile leaves a torn one, with which no command
    of its works. It is taken away, and the command run again: DVC's run cache knows what ran, and gives it back.
    One that was written in the last seconds may be under way, and is read once more.

    Raises:
        StageLocked: another DVC process holds a lock.
        StageError: the command failed.
        Cancelled: the flow was cancelled meanwhile.
    """
    log, lines = logger(), []
    with CHILDREN.start([sys.executable, "-m", "dvc", "--wait-for-lock", *words], folder, variables) as child:
        assert child.stdout is not None
        for line in map(without_log_in, child.stdout):
            lines.append(line)
            log.info(line.rstrip())
        code = child.wait()
    output = "".join(lines)
    if CHILDREN.stopped:
        raise Cancelled(f"dvc {' '.join(words)}: ended, the flow was cancelled")
    if code and any(text in output for text in TORN):
        torn = (folder or Path()) / "dvc.lock"
        if torn.exists() and abs(time.time() - torn.stat().st_mtime) < WRITING_SECONDS:
            time.sleep(1)
        else:
            log.warning("dvc.lock was torn by a kill; it is written anew, from DVC's run cache")
            torn.unlink(missing_ok=True)
        return run_dvc(*words, folder=folder, variables=variables)
    if code:
        kind = StageLocked if any(text in output for text in LOCKED) else StageError
        raise kind(f"dvc {' '.join(words)}: status {code}\n{''.join(lines[-20:])}")
    return output


def logger() -> Any:
    """The logger of the run at hand, or this module's outside of one."""
    from prefect.exceptions import MissingContextError

    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)


def repro(*stages: str, single: bool = False) -> str:
    """A plain ``dvc repro`` of ``stages`` (of a matrix all cells) and what they need, without Prefect.

    Args:
        stages: Names as in ``dvc.yaml``.
        single: Leave out what they need.

    Returns:
        DVC's output; its lines go to the log as they come.

    Raises:
        RuntimeError: inside a DVC stage.
        StageLocked: another DVC command works on the project.
        StageError: a stage failed.
    """
    refuse_inside_dvc()
    return run_dvc("repro", *(["--single-item"] if single else []), *stages)


def experiment(
    name: str, settings: Mapping[str, object], *stages: str, variables: Mapping[str, str] = NONE
) -> str:
    """Run ``stages`` as DVC's experiment ``name``, in a copy of the project with other ``settings``.

    The project's own ``params.yaml``, ``dvc.lock`` and outputs stay as they are. What another run has made already is
    taken from DVC's run cache, so a killed experiment goes on with the same call. An earlier experiment of that name on
    the same commit is replaced.

    Args:
        settings: key of ``params.yaml`` with dots -> value.
        variables: of the environment, beside the process's own.

    Returns:
        The git commit that holds it: a name could be a branch's, too.

    Raises:
        RuntimeError: inside a DVC stage.
        ParamsError: a value that DVC can't be told.
        StageError: a stage failed, or the project is no git repository.
    """
    refuse_inside_dvc()
    changes = [word for key, value in settings.items() for word in ("-S", f"{key}={written(value)}")]
    base = git("rev-parse", "HEAD")
    if base is None:
        raise StageError("an experiment needs a commit to begin with: `git init`, `git add -A`, `git commit`")
    if name in run_dvc("exp", "list", "--rev", base, "--name-only").split():
        run_dvc("exp", "remove", name)
    run_dvc("exp", "run", "--temp", "--name", name, *changes, *stages, variables=variables)
    made = git("rev-parse", f"refs/exps/{base[:2]}/{base[2:]}/{name}")
    if made is None:
        raise StageError(f"the experiment {name} left no commit: the project's commit changed while it began")
    return made


def written(value: object) -> str:
    """As DVC's ``-S`` (Hydra's overrides) reads it.

    Raises:
        ParamsError: a text that Hydra would fill in.
    """
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(written, value))}]"
    if not isinstance(value, str):
        return str(value)
    if "${" in value:
        raise ParamsError(f"{value!r}: holds ${{", "use a path without it")
    quoted = re.sub(r"(\\*)'", r"\1\1\\'", value)
    return "'" + re.sub(r"(\\+)$", r"\1\1", quoted) + "'"


def fetch(commit: str, *paths: str, into: Path) -> None:
    """Copy files and folders of an experiment's commit into a folder, which is replaced whole or not at all."""
    with atomic_dir(into) as folder:
        for path in paths:
            run_dvc("get", "--quiet", "--rev", commit, "--out", str(folder / path), ".", path)
