"""DVC's stages as Prefect tasks: the only module that starts DVC, and what the flows share.

The order of the stages is written in ``dvc.yaml`` alone. `mirror` reads it from ``dvc dag --dot``,
makes one task a stage and runs ``dvc repro --single-item STAGE`` for each. DVC decides what is
stale, Prefect decides when it runs; Prefect's own caching is off, for two caches disagree.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows.runners import LOCAL, everywhere, gpu_resource, make_runner, outcome
from lerenet import layout
from lerenet.stages.table import STAGES, groups

Graph = dict[str, frozenset[str]]  # stage -> the stages it reads from

GROUPS = groups()
GPU_STAGES = tuple(stage.name for stage in STAGES if stage.gpu)
GPU_LIMIT = "gpu"
PULLING = layout.CHECKPOINTS / "pulling"  # while the data are fetched, and after a fetch that was killed
LOCKED = ("Unable to acquire lock", "is busy, it is being blocked by", "Lock is held by")
TORN = ("'./dvc.lock' validation failed", "'./dvc.lock' is invalid")
WRITING_SECONDS = 5.0  # DVC needs one at most to write dvc.lock
RETRY_SECONDS: list[float] = [1, 2, 4, 8, 15, 30]
GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL


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


# -- child processes ----------------------------------------------------------------------------


class Children:
    """The DVC processes under way, each with its own session, so that a whole group can be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    @contextmanager
    def start(self, words: Sequence[str], folder: Path | None = None) -> Iterator[subprocess.Popen[str]]:
        """Start a command in a folder; when the block ends, in whatever way, nothing of its group is left."""
        with self._lock:
            if self._stopped:
                raise Cancelled(f"{' '.join(words)}: the flow was cancelled")
            child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", env=_environment(), cwd=folder, start_new_session=True,
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


def run_dvc(*words: str, folder: Path | None = None) -> str:
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
    with CHILDREN.start([sys.executable, "-m", "dvc", "--wait-for-lock", *words], folder) as child:
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
        return run_dvc(*words, folder=folder)
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


# -- the graph ----------------------------------------------------------------------------------

_NODE, _EDGE = re.compile(r'^"([^"]+)";$'), re.compile(r'^"([^"]+)" -> "([^"]+)";$')


def parse_dot(text: str) -> Graph:
    """Stages and what each reads from, of the output of ``dvc dag --dot``."""
    found: dict[str, set[str]] = {}
    for line in map(str.strip, text.splitlines()):
        if node := _NODE.match(line):
            found.setdefault(node[1], set())
        elif edge := _EDGE.match(line):
            found.setdefault(edge[1], set())
            found.setdefault(edge[2], set()).add(edge[1])
    return {stage: frozenset(above) for stage, above in found.items()}


def select(graph: Graph, groups: Sequence[str] = (), folds: Sequence[str] = ()) -> Graph:
    """The stages of the named groups and folds, with everything that they need.

    Args:
        graph: All stages.
        groups: Names of `GROUPS`; empty: all stages.
        folds: Only stages whose key begins with one of these; empty: any.
    """
    wanted = {name for group in groups for name in GROUPS[group]}
    waiting = [
        stage
        for stage in graph
        if (not groups or stage.partition("@")[0] in wanted)
        and (not folds or stage.partition("@")[2].partition("-")[0] in folds)
    ]
    kept: set[str] = set()
    while waiting:
        stage = waiting.pop()
        if stage not in kept:
            kept.add(stage)
            waiting.extend(graph[stage])
    return {stage: above for stage, above in graph.items() if stage in kept}


def read_graph() -> Graph:
    """The project's stages and what each reads from, as DVC sees them now."""
    return parse_dot(run_dvc("dag", "--dot"))


def below(graph: Graph, changed: Sequence[str]) -> list[str]:
    """``changed`` and every stage that reads from one of them, directly or not, in the graph's order."""
    found = set(changed)
    while more := {stage for stage, above in graph.items() if above & found} - found:
        found |= more
    return [stage for stage in graph if stage in found]


# -- the mirror ---------------------------------------------------------------------------------


def locked(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a task failed because DVC was at work elsewhere: then, and only then, it is tried again."""
    return isinstance(state.result(raise_on_failure=False), StageLocked)


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(RETRY_SECONDS),
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=locked,
)
def run_stage(stage: str, force: bool = False, folder: Path | None = None, limited: bool = True) -> None:
    """``dvc repro --single-item STAGE`` in the project's folder.

    Args:
        stage: DVC's name of it.
        force: Run it even when nothing changed.
        folder: The project's folder, the same on every worker.
        limited: A GPU stage waits for a slot of the limit ``gpu`` where this machine has a GPU.

    Raises:
        StageError: it failed, or the folder is not there.
    """
    if folder is not None and not (folder / "dvc.yaml").exists():
        raise StageError(
            f"{stage}: worker {platform.node()} has no {folder}/dvc.yaml: mount the project there"
        )
    with _gpu_slot(stage) if limited else nullcontext():
        run_dvc("repro", "--single-item", *(["--force"] if force else []), stage, folder=folder)


def _gpu_slot(stage: str) -> AbstractContextManager[None]:
    if stage.partition("@")[0] not in GPU_STAGES or not has_cuda():
        return nullcontext()
    from prefect.concurrency.sync import concurrency

    return concurrency(GPU_LIMIT, occupy=1, strict=True)


@cache
def has_cuda() -> bool:
    """Whether PyTorch sees a CUDA device."""
    import torch

    return bool(torch.cuda.is_available())


@task(cache_policy=NO_CACHE, persist_result=False)
def ensure_gpu_limit(slots: int = 1) -> None:
    """Make the limit ``gpu`` when the server has none, so that ``strict=True`` finds it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(GPU_LIMIT)
        except ObjectNotFound:
            wanted = GlobalConcurrencyLimitCreate(name=GPU_LIMIT, limit=slots)
            with suppress(ObjectAlreadyExists):
                client.create_global_concurrency_limit(wanted)


@flow(name="dvc", validate_parameters=False, persist_result=False)
def run_graph(graph: Graph, jobs: int = 2, force: Sequence[str] = ()) -> None:
    """Run every stage of ``graph`` once all it reads from are done, at most ``jobs`` at once.

    The first failure starts nothing more; what runs already may finish.

    Raises:
        StageError: names each stage that failed and those that did not start.
    """
    everywhere(reset_children)
    try:
        if has_gpu_stage(graph) and has_cuda():
            ensure_gpu_limit()
        _run_graph(graph, jobs, force)
    except BaseException:
        everywhere(stop_children)
        raise


def has_gpu_stage(graph: Graph) -> bool:
    """Whether a stage of ``graph`` trains or predicts."""
    return any(stage.partition("@")[0] in GPU_STAGES for stage in graph)


def _run_graph(graph: Graph, jobs: int, force: Sequence[str]) -> None:
    waiting, futures, folder = dict(graph), dict[str, Any](), Path.cwd()
    done: set[str] = set()
    failed: dict[str, Any] = {}
    while (waiting and not failed) or len(done) + len(failed) < len(futures):
        running = len(futures) - len(done) - len(failed)
        ready = [stage for stage, above in waiting.items() if above <= done] if not failed else []
        for stage in ready[: max(0, jobs - running)]:
            above = [futures[name] for name in waiting.pop(stage)]
            named: Any = run_stage.with_options(name=stage, task_run_name=stage)
            slot = gpu_resource() if stage.partition("@")[0] in GPU_STAGES else nullcontext()
            with slot or nullcontext():
                given = {"force": stage in force, "folder": folder, "limited": slot is None}
                futures[stage] = named.submit(stage, **given, wait_for=above)
        time.sleep(0.05)
        for stage in futures.keys() - done - failed.keys():
            state = outcome(futures[stage])
            if state is not None and state.is_completed():
                done.add(stage)
            elif state is not None:
                failed[stage] = state
    if failed:
        reasons = [f"{stage}: {state.result(raise_on_failure=False)}" for stage, state in failed.items()]
        skipped = f"\nnot started: {', '.join(waiting)}" if waiting else ""
        raise StageError("\n".join(reasons) + skipped)


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


def mirror(
    groups: Sequence[str] = (),
    jobs: int = 2,
    force: bool = False,
    folds: Sequence[str] = (),
    runner: str = LOCAL,
) -> list[str]:
    """``dvc repro`` as Prefect tasks: the named groups with what they need, or everything.

    Args:
        groups: Names of `GROUPS`; empty: all stages.
        jobs: How many stages run at once.
        force: Run the groups' own stages (all, when none is named) even when nothing changed.
        folds: Only the stages of these folds, with what they need; empty: all.
        runner: Where they run, see `flows.runners.make_runner`.

    Returns:
        The stages of the mirror.

    Raises:
        RuntimeError: inside a DVC stage.
        ValueError: no such runner.
        StageError: a stage failed.
    """
    refuse_inside_dvc()
    tasks = make_runner(runner, max(1, jobs))
    CHILDREN.reset()
    graph = select(read_graph(), groups, folds)
    own = {name for group in groups for name in GROUPS[group]}
    forced = [stage for stage in graph if force and (not own or stage.partition("@")[0] in own)]
    run_graph.with_options(task_runner=tasks)(graph, jobs=max(1, jobs), force=forced)
    return list(graph)


# -- other DVC commands that the retraining needs ------------------------------------------------


def changed_stages() -> list[str]:
    """The stages that ``dvc status`` finds changed; those below them are not forecast."""
    return list(_status())


def _status(*targets: str) -> dict[str, list[Any]]:
    """What ``dvc status`` finds changed: stage -> what of it."""
    lines = [line for line in run_dvc("status", "--json", *targets).splitlines() if line.startswith("{")]
    return {stage: found for line in lines for stage, found in json.loads(line).items()}


def is_clean() -> bool:
    """Whether ``dvc status`` finds nothing to run."""
    return not changed_stages()


def add_data() -> None:
    """Record the data folder with DVC: its hash into ``data.dvc``, its files into the cache.

    Raises:
        StageLocked: another DVC process works with the data.
        StageError: DVC can't record them.
    """
    CHILDREN.reset()
    run_dvc("add", "--quiet", "data")


def has_remote() -> bool:
    """Whether the project has a default DVC remote."""
    return any("(default)" in line for line in run_dvc("remote", "list").splitlines())


def pull_data() -> str:
    """Fetch ``data`` from the remote where ``data.dvc`` names others than those here.

    Local changes stay and are used: images that were added, edited or removed. A fetch that was killed is
    finished first.
    """
    if not Path("data.dvc").exists() or not has_remote():
        return "no remote: the local data are used"
    if layout.DATA.is_dir() and not PULLING.exists():
        if "data.dvc" not in _status("data.dvc"):
            return "the data are those of data.dvc"
        if not _as_read_last():
            return "the local data were changed and are used as they are"
    PULLING.parent.mkdir(exist_ok=True)
    PULLING.touch()  # until the files are whole; the watcher leaves them alone meanwhile
    try:
        said = run_dvc("pull", "data.dvc")
    except StageError as error:
        if "without a confirmation" not in str(error):
            raise
        said = "the local data were changed and are used as they are"
    PULLING.unlink()
    return said


def _as_read_last() -> bool:
    """Whether the data folder is the one that the pipeline read last (``dvc.lock``)."""
    found = _status("catalog").get("catalog", [])
    changed = [deps for one in found if isinstance(one, dict) for deps in [one.get("changed deps", {})]]
    return not any(layout.DATA.as_posix() in deps for deps in changed)


def push() -> str:
    """Send what DVC holds to the remote, when there is one."""
    return run_dvc("push") if has_remote() else "no remote: nothing pushed"


# -- artifacts ----------------------------------------------------------------------------------


def publish(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Publish a table as a Prefect artifact; nothing when it has no rows."""
    if rows:
        create_table_artifact(table=[dict(row) for row in rows], key=key, description=description)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """``metrics.json`` of every folder inside ``folder``, one row each with its ``key``."""
    found = []
    for path in sorted(folder.glob("*/metrics.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        flat = {name: value for name, value in values.items() if not isinstance(value, dict | list)}
        found.append({"key": path.parent.name, **flat})
    return found
