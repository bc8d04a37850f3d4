"""Where the mirror's tasks run: in threads of the flow's process, or on the workers of a Dask cluster.

The workers of a cluster see the project's folder at the same path (a shared disk) and can import it.
Each takes one stage at a time; a worker that declares the resource ``GPU`` gives each slot to one stage.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Crashed
from prefect.task_runners import ThreadPoolTaskRunner

LOCAL, DASK = "local", "dask"
GPU = "GPU"  # the resource's name at a worker
SCHEMES = ("tcp://", "tls://", "ucx://")  # of a scheduler's address


def make_runner(where: str, jobs: int) -> Any:
    """A task runner.

    Args:
        where: ``local`` (threads), ``dask`` (a cluster of processes on this machine for the time of the
            flow), or the address of a cluster's scheduler, ``tcp://host:8786``.
        jobs: Threads, or workers of the cluster made here; a standing cluster has its own.

    Raises:
        ValueError: anything else, or Dask is not installed.
    """
    if where == LOCAL:
        return ThreadPoolTaskRunner(max_workers=jobs)
    if where != DASK and not where.startswith(SCHEMES):
        raise ValueError(f"runner {where!r}: give {LOCAL}, {DASK}, or an address as tcp://host:8786")
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise ValueError(f"runner {where!r} needs Dask: pip install 'lerenet[dask]'") from error
    if where == DASK:
        one_each = {"n_workers": jobs, "threads_per_worker": 1, "processes": True}
        return DaskTaskRunner(cluster_kwargs={**one_each, "dashboard_address": None})
    return DaskTaskRunner(address=where)


def everywhere(work: Callable[[], None]) -> None:
    """Call ``work`` (importable by name) in this process and, in a flow on a cluster, in each worker."""
    work()
    client = _client()
    if client is not None:
        client.run(work)


def gpu_resource() -> AbstractContextManager[Any] | None:
    """What a stage on a cluster is submitted under to take a GPU slot; None where slots are Prefect's.

    On a cluster without the resource ``GPU`` nothing is asked for.
    """
    client = _client()
    if client is None:
        return None
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not any(GPU in worker.get("resources", {}) for worker in workers):
        return nullcontext()
    from dask.base import annotate

    annotation: AbstractContextManager[Any] = annotate(resources={GPU: 1})
    return annotation


def outcome(future: Any) -> State[Any] | None:
    """The final state of a task; None while it runs. A task whose worker died has crashed."""
    if not future.wrapped_future.done():
        return None
    future.wait()
    state: State[Any] = future.state
    if state.is_final():
        return state
    error = future.wrapped_future.exception()
    return Crashed(message=f"the worker was lost: {error}") if error is not None else None


def _client() -> Any:
    context = FlowRunContext.get()
    return None if context is None else getattr(context.task_runner, "client", None)
