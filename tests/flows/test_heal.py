"""What a power loss leaves at Prefect, on a real server: ghosts are crashed, slots freed, a retraining goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, GlobalConcurrencyLimitUpdate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.states import Cancelled, Cancelling, Pending, Running, Scheduled

from flows.services import heal as healing
from flows.services import register
from flows.services.heal import RUN_ID, heal, left_behind
from flows.services.standing import POOL
from tests.helpers import PROJECT
from tests.helpers.prefect_server import prefect_server

pytestmark = pytest.mark.whole


@flow(name="retrain")
def retrain(operator: str = "schedule", force: bool = False, wait: bool = False) -> None:
    """A flow of that name."""


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with prefect_server("SCHEDULER", "TRIGGERS", "LATE_RUNS"):
        yield


@pytest.fixture
def client(server: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as made:
        register.ensure_pool(made)
        yield made
        for run in made.read_flow_runs():
            made.delete_flow_run(run.id)


@pytest.fixture
def deployment(client: SyncPrefectClient) -> UUID:
    """``retrain/automatic``, one run at a time."""
    made = client.create_deployment(
        client.create_flow(retrain), "automatic", work_pool_name=POOL, concurrency_limit=1,
        parameters={"operator": "data"},
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
    )  # fmt: skip
    client.update_deployment(made, DeploymentUpdate(concurrency_limit=1))
    return made


def begun(client: SyncPrefectClient, deployment: UUID, running: bool = True, **parameters: object) -> UUID:
    run = client.create_flow_run_from_deployment(deployment, parameters=parameters, state=Scheduled())
    client.set_flow_run_state(run.id, Pending())
    if running:
        client.set_flow_run_state(run.id, Running())
    return run.id


@pytest.mark.parametrize("running", [True, False], ids=["running", "pending"])
def test_a_run_without_a_process_is_crashed_and_its_retraining_goes_on(
    client: SyncPrefectClient, deployment: UUID, running: bool
) -> None:
    ghost = begun(client, deployment, running, operator="ada", force=True)
    left = left_behind(client, worker=False)
    assert [run.id for run in left.runs] == [ghost]
    assert "has no process" in left.shown()[0]
    heal(client, worker=False)
    assert client.read_flow_run(ghost).state_name == "Crashed"
    (again,) = (run for run in client.read_flow_runs() if run.id != ghost)
    assert again.deployment_id == deployment
    assert again.parameters == {"operator": "ada", "force": True, "wait": True}
    client.set_flow_run_state(again.id, Pending())
    assert client.read_flow_run(again.id).state_name == "Pending"  # the slot is free
    client.set_flow_run_state(again.id, Running())


def test_a_retraining_that_somebody_cancelled_is_cancelled_and_not_begun_again(
    client: SyncPrefectClient, deployment: UUID
) -> None:
    cancelled = begun(client, deployment)
    client.set_flow_run_state(cancelled, Cancelled())
    ghost = begun(client, deployment)
    client.set_flow_run_state(ghost, Cancelling())
    assert [run.id for run in left_behind(client, worker=True).runs] == [ghost]
    heal(client, worker=True)
    assert {client.read_flow_run(run).state_name for run in (cancelled, ghost)} == {"Cancelled"}
    assert {run.id for run in client.read_flow_runs()} == {cancelled, ghost}
    client.set_flow_run_state(begun(client, deployment), Pending())  # the slot is free


def test_a_run_with_a_process_is_left_alone(client: SyncPrefectClient, deployment: UUID) -> None:
    run = begun(client, deployment)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={RUN_ID: str(run)})
    try:
        assert not left_behind(client, worker=False)
    finally:
        child.kill()
        child.wait()
    assert left_behind(client, worker=False)


def test_a_run_that_a_worker_is_starting_has_time(
    client: SyncPrefectClient, deployment: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(client, deployment, running=False)
    assert not left_behind(client, worker=True)
    assert heal(client, worker=True) == []  # its slot stays its own
    limit = client.read_deployment(deployment).global_concurrency_limit
    assert limit is not None
    assert limit.active_slots == 1
    assert client.read_flow_run(run).state_name == "Pending"
    monkeypatch.setattr(healing, "BEFORE", timedelta(0))
    assert left_behind(client, worker=True)


def test_a_slot_that_no_run_holds_is_freed(client: SyncPrefectClient, deployment: UUID) -> None:
    limit = client.read_deployment(deployment).global_concurrency_limit
    assert limit is not None
    client.update_global_concurrency_limit(limit.name, GlobalConcurrencyLimitUpdate(active_slots=1))
    left = left_behind(client, worker=True)
    assert left.slots == [limit.name]
    assert "held by no run" in left.shown()[0]
    assert heal(client, worker=True) == [f"slots of {limit.name}: freed"]
    assert not left_behind(client, worker=True)


def test_a_run_may_say_nothing_of_its_process(client: SyncPrefectClient, deployment: UUID) -> None:
    with pytest.raises(Exception, match="Additional properties are not allowed"):
        client.create_flow_run_from_deployment(deployment, job_variables={"command": "touch /tmp/made"})


def test_what_is_registered_already_is_left_alone(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def deploy(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        said.append(words[-1])
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", deploy)
    monkeypatch.setattr(register, "forget_others", lambda _client: said.append("others"))
    monkeypatch.setattr(register, "ensure_automation", lambda _client, wanted: said.append(wanted.name))
    monkeypatch.chdir(PROJECT)
    assert register.register({})
    assert not register.register(
        {}
    )  # a trigger that is written anew has another id: what waits for it would hang
    assert said == ["--all", "others", register.ZOMBIES]
    assert register.register({"LERENET_PROJECT": "/elsewhere"})


def test_a_deployment_that_is_named_no_more_is_forgotten(
    client: SyncPrefectClient, deployment: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    flow_id, entrypoint = client.create_flow(retrain), "flows/retrain.py:retrain"
    names = {"automatic": POOL, "nightly": POOL, "theirs": None}
    for name, pool in names.items():
        client.create_deployment(flow_id, name, work_pool_name=pool, entrypoint=entrypoint)
    register.forget_others(client)
    assert {one.name for one in client.read_deployments()} == {"automatic", "theirs"}
