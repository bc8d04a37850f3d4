"""What the Prefect server has to know: work pool, deployments, and what to do with dead runs.

What it knows already is left alone: a trigger that is written anew gets another id, and what waits for the old one
waits for ever.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flows import HEARTBEAT_SECONDS
from flows.services.processes import ServiceError
from flows.services.standing import POOL
from lerenet.files import sha256_file

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

DEPLOYMENTS = Path("prefect.yaml")
ZOMBIES = "lerenet: runs without heartbeat are crashed"
MISSED = 3  # heartbeats that may be missing
REGISTERED = "lerenet_registered"  # Prefect variable: what the server knows
TEMPLATE: dict[str, Any] = {
    "job_configuration": {"stream_output": True},
    "variables": {"type": "object", "properties": {}, "additionalProperties": False},
}
FINAL = ("Completed", "Failed", "Cancelled", "Crashed")


def register(environment: Mapping[str, str]) -> bool:
    """Make pool, deployments (``prefect.yaml``) and automations; whether there was anything to make.

    Raises:
        ServiceError: ``prefect deploy`` failed; with its output.
    """
    os.environ.update(environment)  # before Prefect is imported, for it reads them then
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate

    with get_client(sync_client=True) as client:
        wanted, known = _digest(environment), client.read_variable_by_name(REGISTERED)
        if known is not None and known.value == wanted:
            return False
        ensure_pool(client)
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
            raise ServiceError(f"prefect deploy --all: status {done.returncode}\n{last}", "mend prefect.yaml")
        forget_others(client)
        ensure_automation(client, zombie_automation())
        if known is None:
            client.create_variable(VariableCreate(name=REGISTERED, value=wanted))
        else:
            client.update_variable(VariableUpdate(name=REGISTERED, value=wanted))
        return True


def _digest(environment: Mapping[str, str]) -> str:
    """SHA-256 of all that is registered: deployments, the flows whose parameters they have, the pool, automations."""
    here = Path(__file__).parents[1]
    files = [DEPLOYMENTS, *sorted(here.rglob("*.py"))]
    said = [sha256_file(path) for path in files] + [
        environment.get("LERENET_PROJECT", ""),
        version("prefect"),
    ]
    return hashlib.sha256(" ".join(said).encode()).hexdigest()


def ensure_pool(client: SyncPrefectClient) -> None:
    """Make the process work pool, or bring the one of its name up to date.

    A run may say nothing of its process: command, folder and variables are the worker's, whoever asks for the run.
    """
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists

    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=TEMPLATE))
    except ObjectAlreadyExists:
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=TEMPLATE))


def forget_others(client: SyncPrefectClient) -> None:
    """Delete deployments of the pool that ``prefect.yaml`` names no more, and their triggers: they would run, too."""
    entries = yaml.safe_load(DEPLOYMENTS.read_text(encoding="utf-8"))["deployments"]
    named = {(entry["entrypoint"], entry["name"]) for entry in entries}
    for one in client.read_deployments():
        if one.work_pool_name == POOL and (one.entrypoint, one.name) not in named:
            client.delete_resource_owned_automations(f"prefect.deployment.{one.id}")
            client.delete_deployment(one.id)


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


def ensure_automation(client: SyncPrefectClient, wanted: AutomationCore) -> None:
    """Make ``wanted``, or bring the one of its name up to date."""
    same_name = client.read_automations_by_name(wanted.name)
    if same_name:
        client.update_automation(same_name[0].id, wanted)
    else:
        client.create_automation(wanted)
    for extra in same_name[1:]:
        client.delete_automation(extra.id)
