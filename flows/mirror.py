"""DVC's stages as Prefect tasks: one a stage, each ``dvc repro --single-item STAGE``.

DVC decides what is stale, Prefect decides when it runs; Prefect's own caching is off, for two caches disagree.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.dvc import (
    CHILDREN,
    StageError,
    StageLocked,
    refuse_inside_dvc,
    reset_children,
    run_dvc,
    stop_children,
)
from flows.graph import GPU_STAGES, GROUPS, Graph, has_gpu_stage, read_graph, select
from flows.naming import stages
from flows.runners import LOCAL, everywhere, gpu_resource, make_runner, outcome
from lerenet.tracking.runs import PARENT

GPU_LIMIT = "gpu"
RETRY_SECONDS: list[float] = [1, 2, 4, 8, 15, 30]


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
def run_stage(
    stage: str, force: bool = False, folder: Path | None = None, limited: bool = True, parent: str = ""
) -> None:
    """``dvc repro --single-item STAGE`` in the project's folder.

    Args:
        stage: DVC's name of it.
        force: Run it even when nothing changed.
        folder: The project's folder, the same on every worker.
        limited: A GPU stage waits for a slot of the limit ``gpu`` where this machine has a GPU.
        parent: Id of the MLflow run that the stage's becomes a child of, if any.

    Raises:
        StageError: it failed, or the folder is not there.
    """
    if folder is not None and not (folder / "dvc.yaml").exists():
        raise StageError(
            f"{stage}: worker {platform.node()} has no {folder}/dvc.yaml: mount the project there"
        )
    with _gpu_slot(stage) if limited else nullcontext():
        forced = ["--force"] if force else []
        variables = {PARENT: parent} if parent else {}
        run_dvc("repro", "--single-item", *forced, stage, folder=folder, variables=variables)


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


@flow(name="dvc", flow_run_name=stages, validate_parameters=False, persist_result=False)
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


def _run_graph(graph: Graph, jobs: int, force: Sequence[str]) -> None:
    waiting, futures, folder = dict(graph), dict[str, Any](), Path.cwd()
    parent = os.environ.get(PARENT, "")
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
                given = {"force": stage in force, "folder": folder, "limited": slot is None, "parent": parent}
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
