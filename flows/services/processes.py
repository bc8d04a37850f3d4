"""Service processes: each in a session of its own, known by a pid file and a mark in its environment.

The pid file says which process is the service. The mark is inherited by whatever that process starts,
in whatever session, so `stop` finds the stages of a killed worker too and leaves no process behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from lerenet.errors import LerenetError
from lerenet.files import read_json, write_json

FOLDER = Path(".services")
MARK = "LERENET_SERVICE"  # environment variable: "<folder>/<name>"
GRACE_SECONDS = 25.0  # between SIGTERM and SIGKILL; a cancelled flow needs ten for its stages
START_SECONDS = 240.0
POLL_SECONDS = 0.5
OTHERS = 0o077  # umask: what services write is their owner's alone
LARGEST = 10_000_000  # bytes of a log
TAIL = 15  # lines of a log that an error shows
_CHILDREN: list[subprocess.Popen[bytes]] = []  # kept, for Popen warns of a child that outlives its object


class ServiceError(LerenetError):
    """A service that did not start, or that can't be stopped."""


@dataclass(frozen=True)
class Service:
    """A process that stands.

    Attributes:
        name: Of its pid file and its log.
        command: Program and arguments.
        healthy: Given the time of its start (seconds since 1970), whether it answers.
        environment: Variables added to those of the caller.
        address: Where people find it, if anywhere.
        port: That it listens on, if any.
    """

    name: str
    command: tuple[str, ...]
    healthy: Callable[[float], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    port: int | None = None

    @property
    def log(self) -> Path:
        """The file of its output."""
        return FOLDER / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """The file that says which process it is."""
        return FOLDER / f"{self.name}.json"

    @property
    def mark(self) -> str:
        """What ``LERENET_SERVICE`` holds in its processes."""
        return str(FOLDER.resolve() / self.name)


def leader(service: Service) -> psutil.Process | None:
    """The process of the pid file, or None when it ended or its number now is another process's."""
    if not service.pid_file.exists():
        return None
    try:
        noted = read_json(service.pid_file)
        process = psutil.Process(noted["pid"])
        same = abs(process.create_time() - noted["started"]) < 1 and process.environ().get(MARK)
        alive = process.status() != psutil.STATUS_ZOMBIE
    except (LerenetError, KeyError, TypeError, psutil.Error):
        return None
    return process if alive and same == service.mark else None


def members(service: Service) -> list[psutil.Process]:
    """Every living process that carries the service's mark, but this one."""
    processes = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            marked = process.pid != os.getpid() and process.environ().get(MARK) == service.mark
            if marked and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
    return processes


def start(service: Service) -> None:
    """Start a service and wait until it answers; one that answers already is left alone.

    Raises:
        ServiceError: it ended or did not answer in time, or its port is taken; with the log's end.
    """
    process = leader(service)
    if process is None:
        stop(service)  # what a crash left
        _require_port(service)
        process = _spawn(service)
    _wait(service, process)


def _require_port(service: Service) -> None:
    taken = service.port is not None and any(
        connection.status == psutil.CONN_LISTEN and connection.laddr.port == service.port
        for connection in psutil.net_connections("tcp")
    )
    if taken:
        raise ServiceError(
            f"{service.name}: port {service.port} is taken by another program",
            f"stop it, or set LERENET_{service.name.upper()}_PORT to a free one",
        )


def _spawn(service: Service) -> psutil.Process:
    FOLDER.mkdir(exist_ok=True)
    environment = {**os.environ, **service.environment, MARK: service.mark}
    rotate(service.log)
    with os.fdopen(os.open(service.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
        child = subprocess.Popen(
            service.command, env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True, umask=OTHERS,
        )  # fmt: skip
    _CHILDREN.append(child)
    process = psutil.Process(child.pid)
    noted = {"pid": child.pid, "started": process.create_time(), "command": list(service.command)}
    write_json(service.pid_file, noted)
    return process


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _wait(service: Service, process: psutil.Process) -> None:
    deadline = time.monotonic() + START_SECONDS
    started = process.create_time()
    while not service.healthy(started):
        ended = not _alive(
            process
        )  # not `leader`: right after its start the environment can still read as empty
        if ended or time.monotonic() > deadline:
            what = "ended" if ended else f"did not answer within {START_SECONDS:.0f} s"
            stop(service)
            raise ServiceError(f"{service.name} {what}\n{tail(service.log)}", f"see {service.log}")
        time.sleep(POLL_SECONDS)


def stop(service: Service) -> int:
    """End every process of a service, children in other sessions too; return how many there were.

    Raises:
        ServiceError: a process outlived SIGKILL.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + GRACE_SECONDS
    told: set[int] = set()
    while (left := members(service)) and time.monotonic() < deadline:
        for process in left:
            if process.pid not in told:
                _send(process, signal.SIGTERM)
                told.add(process.pid)
        ended |= told
        psutil.wait_procs(left, timeout=POLL_SECONDS)
    for _ in range(10):
        if not left:
            break
        for process in left:
            _send(process, signal.SIGKILL)
            ended.add(process.pid)
        psutil.wait_procs(left, timeout=POLL_SECONDS)
        left = members(service)
    if left:
        numbers = ", ".join(str(process.pid) for process in left)
        raise ServiceError(f"{service.name}: processes {numbers} do not end", "end them by hand")
    _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]
    service.pid_file.unlink(missing_ok=True)
    return len(ended)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.Error):
        process.send_signal(number)


def rotate(log: Path) -> None:
    """Put a log above `LARGEST` bytes aside, in the place of the one that was put aside before."""
    if log.exists() and log.stat().st_size > LARGEST:
        log.replace(log.with_name(f"{log.name}.1"))


def tail(path: Path, lines: int = TAIL) -> str:
    """The last lines of a log."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
