"""What a power loss leaves at Prefect: runs that look alive, slots that nobody holds; found, and mended by `make up`.

A run of a deployment is a process here, which carries the run's id in its environment. A run that is running, being
cancelled or about to start, and has no process, is a ghost: it crashed, or it is cancelled by now. Whoever crashed took
no slot along: a deployment whose runs have all ended holds none.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psutil

from lerenet.notify import notify

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

RUN_ID = "PREFECT__FLOW_RUN_ID"
BEFORE = timedelta(minutes=5)  # that a worker has for starting a run's process
AGAIN = "retrain"  # flow that is begun again where it was cut short


@dataclass(frozen=True)
class Left:
    """What stands at the server without anybody behind it.

    Attributes:
        runs: that have no process.
        slots: names of concurrency limits whose slots no run holds.
    """

    runs: Sequence[FlowRun]
    slots: Sequence[str]

    def __bool__(self) -> bool:
        return bool(self.runs or self.slots)

    def shown(self) -> list[str]:
        """Sentences for a person."""
        runs = [f"run {run.name} is {run.state_name} and has no process" for run in self.runs]
        return runs + [f"a slot of {name} is held by no run" for name in self.slots]


def living() -> set[str]:
    """Ids of the runs that have a process on this machine."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and (run := process.environ().get(RUN_ID)):
                found.add(run)
    return found


def left_behind(client: SyncPrefectClient, worker: bool) -> Left:
    """Ghosts and slots without a run.

    Args:
        worker: whether the worker runs, so that a run may be about to get its process.
    """
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import StateType

    active = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    wanted = FlowRunFilter.model_validate(
        {"state": {"type": {"any_": active}}, "deployment_id": {"is_null_": False}}
    )
    limits = {one.id: one.global_concurrency_limit for one in client.read_deployments()}
    held = {owner: limit for owner, limit in limits.items() if limit is not None and limit.active_slots}
    runs = client.read_flow_runs(flow_run_filter=wanted)  # after the slots, so that each has its run by now
    alive, late = living(), datetime.now(UTC) - BEFORE
    ghosts = [run for run in runs if str(run.id) not in alive and not (worker and _starting(run, late))]
    busy = {run.deployment_id for run in runs if run not in ghosts}
    slots = [limit.name for owner, limit in held.items() if owner not in busy]
    return Left(ghosts, slots)


def _starting(run: FlowRun, late: datetime) -> bool:
    """Whether a run became pending after ``late``: its process is on its way."""
    state = run.state
    return state is not None and state.is_pending() and state.timestamp > late


def heal(client: SyncPrefectClient, worker: bool) -> list[str]:
    """Crash ghosts, free their slots, start a retraining that was cut short again; what was done, in words.

    A ghost that somebody was cancelling is cancelled, and stays so. A retraining goes on with the parameters that it
    had, and waits for its turn.

    Args:
        worker: as in `left_behind`.
    """
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
    from prefect.states import Cancelled, Crashed, Scheduled

    ghosts, done = left_behind(client, worker).runs, []
    for run in ghosts:
        ended = Cancelled if run.state is not None and run.state.is_cancelling() else Crashed
        if ended is Crashed and client.read_flow(run.flow_id).name == AGAIN:
            assert run.deployment_id is not None  # left_behind asks for no others
            again = client.create_flow_run_from_deployment(  # first: killed here, nothing is forgotten
                run.deployment_id, parameters={**run.parameters, "wait": True}, state=Scheduled()
            )
            done.append(f"run {again.name}: goes on with the retraining that was cut short, {run.name}")
            notify("retraining cut short", [run.name, f"goes on as {again.name}"], "make status")
        client.set_flow_run_state(run.id, ended(message="its process is gone; found by `make up`"))
        done.append(f"run {run.name}: {run.state_name} without a process, {ended.__name__.lower()}")
    for name in left_behind(client, worker).slots:  # as it is now: a ghost's went with it
        client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(active_slots=0))
        done.append(f"slots of {name}: freed")
    return done
