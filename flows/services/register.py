"""What the Prefect server has to know: work pool, deployments, and what to do with dead runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from flows import HEARTBEAT_SECONDS
from flows.services.processes import ServiceError
from flows.services.standing import POOL

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore

ZOMBIES = "lerenet: runs without heartbeat are crashed"
MISSED = 3  # heartbeats that may be missing
FINAL = ("Completed", "Failed", "Cancelled", "Crashed")


def register(environment: Mapping[str, str]) -> None:
    """Make pool, deployments (``prefect.yaml``) and automations; what is there already is brought up to date.

    Raises:
        ServiceError: ``prefect deploy`` failed; with its output.
    """
    os.environ.update(environment)
    ensure_pool()
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise ServiceError(f"prefect deploy --all: status {done.returncode}\n{last}", "mend prefect.yaml")
    ensure_automation(zombie_automation())


def ensure_pool() -> None:
    """Make the process work pool when the server has none of its name."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    pool = WorkPoolCreate(name=POOL, type="process", base_job_template=template)
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(pool)


def zombie_automation() -> AutomationCore:
    """A run that misses three heartbeats is marked Crashed."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    beat = "prefect.flow-run.heartbeat"
    within = timedelta(seconds=MISSED * HEARTBEAT_SECONDS)
    crash = ChangeFlowRunState(
        name=None, state=StateType.CRASHED, message=f"no heartbeat for {within}", force=False
    )
    return AutomationCore(
        name=ZOMBIES,
        description="Made by `make up`.",
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            after={beat},
            expect={beat, *(f"prefect.flow-run.{state}" for state in FINAL)},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[crash],
    )


def ensure_automation(wanted: AutomationCore) -> None:
    """Make ``wanted``, or bring the one of its name up to date."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        same_name = client.read_automations_by_name(wanted.name)
        if same_name:
            client.update_automation(same_name[0].id, wanted)
        else:
            client.create_automation(wanted)
        for extra in same_name[1:]:
            client.delete_automation(extra.id)
