"""The standing services: known by pid file and mark, started once, stopped with all they started."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from flows.services import __main__ as main
from flows.services import processes, standing
from flows.services.processes import Service, ServiceError, leader, members, start, stop
from flows.services.register import zombie_automation
from lerenet import layout
from lerenet.errors import TrackingError
from lerenet.files import read_json, write_json
from tests.helpers import PROJECT

CHILD = "import subprocess, sys, time; subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
READY = "open('ready', 'w').close(); time.sleep(300)"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "POLL_SECONDS", 0.05)
    for name in list(os.environ):
        if name.startswith(("LERENET_", "MLFLOW_", "PREFECT_SERVER_DATABASE", "PREFECT_API_DATABASE")):
            monkeypatch.delenv(name)
    return tmp_path


def service(code: str = CHILD + READY, port: int | None = None) -> Service:
    return Service("toy", (sys.executable, "-c", code), lambda _started: Path("ready").exists(), port=port)


def test_a_service_is_started_once_and_stopped_with_its_children_in_other_sessions() -> None:
    toy = service()
    try:
        start(toy)
        first = leader(toy)
        assert first is not None
        start(toy)
        assert leader(toy) == first
        assert os.getsid(first.pid) == first.pid
        family = members(toy)
        assert len(family) == 2
    finally:
        assert stop(toy) == 2
    assert not any(process.is_running() and process.status() != "zombie" for process in family)
    assert not toy.pid_file.exists()
    assert stop(toy) == 0


def test_what_a_crash_leaves_is_found_and_ended() -> None:
    toy = service()
    try:
        start(toy)
        process = leader(toy)
        assert process is not None
        process.kill()
        process.wait()
        assert leader(toy) is None
        assert [left.name() for left in members(toy)] == ["sleep"]
        Path("ready").unlink()
        start(toy)
        assert len(members(toy)) == 2  # the old child is gone, leader and child are new
    finally:
        stop(toy)


def test_a_service_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    stubborn = service("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY)
    start(stubborn)
    assert stop(stubborn) == 1
    assert members(stubborn) == []


def test_a_pid_that_is_another_process_now_is_not_the_service() -> None:
    toy = service()
    processes.FOLDER.mkdir()
    me = psutil.Process()
    for started in (me.create_time(), me.create_time() - 1000):  # this process has no mark
        write_json(toy.pid_file, {"pid": os.getpid(), "started": started, "command": []})
        assert leader(toy) is None
    toy.pid_file.write_text("{")
    assert leader(toy) is None
    assert stop(toy) == 0  # and this process lives


def test_another_start_time_is_another_process() -> None:
    toy = service()
    try:
        start(toy)
        known = read_json(toy.pid_file)
        write_json(toy.pid_file, {**known, "started": known["started"] - 1000})
        assert leader(toy) is None
    finally:
        stop(toy)


def test_a_service_that_ends_is_named_with_the_end_of_its_log() -> None:
    with pytest.raises(ServiceError, match=r"toy ended(.|\n)*no such table(.|\n)*toy\.log"):
        start(service("import sys; sys.exit('no such table')"))
    assert members(service()) == []


def test_a_service_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "START_SECONDS", 0.5)
    deaf = service("import time; time.sleep(300)")
    with pytest.raises(ServiceError, match="did not answer"):
        start(deaf)
    assert members(deaf) == []


def test_a_taken_port_is_said_before_anything_starts() -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ServiceError, match=r"port \d+ is taken(.|\n)*LERENET_TOY_PORT"):
            start(service(port=other.getsockname()[1]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whatever_fails_ends_the_keeper_not_but_a_signal_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    failures = [ServiceError("no port", "give one"), httpx.ConnectError("refused"), RuntimeError("odd")]
    told: list[str] = []

    def up() -> None:
        told.append("up")
        if len(told) > len(failures):
            os.kill(os.getpid(), number)
            return
        raise failures[len(told) - 1]

    monkeypatch.setattr(main, "services", lambda: (service(),))
    monkeypatch.setattr(main, "up", up)
    monkeypatch.setattr(main, "down", lambda: told.append("down"))
    monkeypatch.setattr(main, "LONGEST", 0.04)
    before = {which: signal.getsignal(which) for which in (signal.SIGTERM, signal.SIGINT)}
    try:
        main.keep(every=0.01)
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    assert told == ["up"] * 4 + ["down"]
    said = capsys.readouterr().err
    for words in ("no port", "ConnectError: refused", "RuntimeError: odd"):
        assert words in said


# -- which services -------------------------------------------------------------------------------


def words(name: str) -> str:
    return " ".join(next(each for each in standing.services() if each.name == name).command)


def test_everything_listens_on_this_machine_only_at_the_ports_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LERENET_PREFECT_PORT", "4300")
    for name, port in (("prefect", 4300), ("mlflow", 5000)):
        assert f"--host 127.0.0.1 --port {port}" in words(name)
    assert standing.environment()["PREFECT_API_URL"] == "http://127.0.0.1:4300/api"
    monkeypatch.setenv("LERENET_MLFLOW_PORT", "http")
    with pytest.raises(ServiceError, match="LERENET_MLFLOW_PORT"):
        standing.services()


def test_databases_and_artifacts_are_local_unless_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
    assert standing.environment()[url] == f"sqlite+aiosqlite:///{here}/.services/prefect.db"
    assert f"sqlite:///{here}/mlflow.db" in words("mlflow")
    assert f"file://{here}/mlartifacts" in words("mlflow")
    for name, value in (
        ("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://u:p@db/prefect"),
        ("MLFLOW_BACKEND_STORE_URI", "postgresql://u:p@db/mlflow"),
        ("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://bucket/mlflow"),
    ):
        monkeypatch.setenv(name, value)
    assert url not in standing.environment()
    assert "sqlite" not in words("mlflow")
    assert "file:" not in words("mlflow")


def test_a_project_that_was_moved_is_found_again_before_its_server_has_the_store(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.services import __main__ as command

    (here / "mlartifacts/1").mkdir(parents=True)
    with closing(sqlite3.connect("mlflow.db")) as base, base:
        base.execute("CREATE TABLE runs (artifact_uri TEXT)")
        base.execute("INSERT INTO runs VALUES ('file:///gone/mlartifacts/1')")
    seen = {}

    def started(service: Service) -> None:
        with closing(sqlite3.connect("mlflow.db")) as base:
            seen[service.name] = base.execute("SELECT artifact_uri FROM runs").fetchone()[0]

    monkeypatch.setattr(command, "start", started)
    command.up(["mlflow"])
    assert seen == {"mlflow": (here / "mlartifacts/1").as_uri()}


def test_a_project_that_is_half_restored_is_not_started(here: Path) -> None:
    from flows.services import __main__ as command

    write_json(layout.RESTORING, {})
    with pytest.raises(TrackingError, match="cut short here"):
        command.up(["mlflow"])
    assert not (here / ".services").exists()


def test_a_run_that_misses_three_heartbeats_is_crashed() -> None:
    made = zombie_automation()
    trigger = made.trigger
    assert trigger.posture == "Proactive"
    assert trigger.after == {"prefect.flow-run.heartbeat"}
    assert {"prefect.flow-run.heartbeat", "prefect.flow-run.Completed"} <= trigger.expect
    beat = int(standing.environment()["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert trigger.within.total_seconds() == 3 * beat
    code = "import flows, prefect.settings as s; print(s.get_current_settings().flows.heartbeat_frequency)"
    env = {name: value for name, value in os.environ.items() if "HEARTBEAT" not in name}
    shell = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=env, capture_output=True, text=True, check=True
    )
    assert int(shell.stdout) == beat  # of a run that somebody started by hand, too
    assert made.actions[0].state == "CRASHED"


def test_the_watcher_is_healthy_only_while_it_looks() -> None:
    processes.FOLDER.mkdir()
    now = time.time()
    assert not standing.looked(now - 10)
    beat = processes.FOLDER / "watch.beat"
    beat.touch()
    assert standing.looked(now - 10)
    assert not standing.looked(now + 1000)  # of an earlier watcher
    os.utime(beat, (now - 3600, now - 3600))
    assert not standing.looked(now - 7200)


def test_compose_runs_the_same_services_from_the_lock() -> None:
    compose = yaml.safe_load((PROJECT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert {each.name for each in standing.services()} | {"register", "processes"} == set(compose)
    beat = standing.environment()["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]
    for name, found in compose.items():
        assert found["image"] == "lerenet", f"{name}: another image would have other versions"
        assert "-c /src/constraints.txt" in found["build"]["dockerfile_inline"]
        assert found["environment"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == beat
        assert all(port.startswith("127.0.0.1:") for port in found.get("ports", []))
        assert not found["user"].startswith(("0", "root"))
        assert found.get("pid") == (None if name == "processes" else "service:processes")
        assert found["environment"]["PREFECT_API_AUTH_STRING"] == "${LERENET_AUTH}"
        assert found["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert f"--pool {standing.POOL}" in compose["worker"]["command"]
    assert "flows.services register" in compose["register"]["command"]
