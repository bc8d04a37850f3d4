"""``python -m flows.services up | down | status | keep``: what ``make up`` and its like call."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer
from filelock import FileLock

from flows.services.access import CLIENT, private
from flows.services.heal import heal, left_behind
from flows.services.processes import FOLDER, Service, leader, members, start, stop
from flows.services.register import register
from flows.services.standing import answers, environment, services
from lerenet.cli.terminal import Json, print_json, run_app
from lerenet.errors import LerenetError
from lerenet.tracking.store import backend_uri, follow_moved, require_restored

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
STORE = "mlflow"  # a project that was moved is found again before its server has the store
LONGEST = 300.0  # seconds that `keep` waits before it tries again
LATER = "worker"  # needs pool and deployments; they are made before it starts


def _lock() -> FileLock:
    private(FOLDER)
    return FileLock(FOLDER / "lock")


@app.command()
def up(
    only: Annotated[
        list[str] | None, typer.Argument(help="Names of services; all when none is given.")
    ] = None,
) -> None:
    """Start what does not run, in order, each when the one before answers; mend what a crash left at Prefect."""
    require_restored()
    with _lock():
        for service in services():
            runs = leader(service) is not None
            if service.name == LATER and not only:
                new = register(environment())
                typer.echo(f"deployments and automations: {'registered' if new else 'as registered'}")
                mend(runs)
            if only and service.name not in only:
                continue
            if service.name == STORE and not runs:
                follow_moved(backend_uri())
            start(service)
            typer.echo(f"{service.name}: {'ran already' if runs else 'started'} {service.address}".rstrip())


def mend(worker: bool) -> None:
    """Say and heal what has nobody behind it; ``worker``: whether the worker runs."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for line in heal(client, worker):
            typer.echo(line)


@app.command(name="heal")
def heal_command() -> None:
    """Mend what a crash left at the server that ``PREFECT_API_URL`` names, before a worker starts here."""
    mend(worker=False)


@app.command()
def keep(
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 15.0,
) -> None:
    """Start all services, start again what dies, and stop them when this process is ended: for systemd.

    What fails is said and tried again, after twice as long each time, at most `LONGEST` seconds.
    """
    ended, pause = Event(), every
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    while not ended.is_set():
        try:
            if any(leader(service) is None for service in services()):
                up()
            pause = every
        except Exception as error:  # of Prefect's client, of the network: whatever ends, the services stand
            said = str(error) if isinstance(error, LerenetError) else f"{type(error).__name__}: {error}"
            pause = max(every, min(2 * pause, LONGEST))
            typer.echo(f"{said}; tried again in {pause:.0f} s", err=True)
        ended.wait(pause)
    down()


@app.command(name="environment")
def environment_command() -> None:
    """Print what a shell needs to speak to the services: ``eval "$(python -m flows.services environment)"``."""
    wanted = environment()
    for name in ("PREFECT_API_URL", CLIENT, "MLFLOW_TRACKING_URI"):
        typer.echo(f"export {name}={shlex.quote(wanted[name])}")


@app.command(name="register")
def register_command() -> None:
    """Make pool, deployments and automations on the server that ``PREFECT_API_URL`` names."""
    register({"LERENET_PROJECT": str(Path.cwd())})


@app.command()
def down() -> None:
    """Stop all of them, and whatever they started, in reverse order."""
    with _lock():
        for service in reversed(services()):
            count = stop(service)
            typer.echo(f"{service.name}: {f'stopped, {count} processes' if count else 'did not run'}")


@app.command()
def status(as_json: Json = False) -> None:
    """Say of each whether it runs and answers, and what is left behind at Prefect; status 1 when not all is well."""
    table = [looked_at(service) for service in services()]
    left = remains()
    if as_json:
        print_json({"services": table, "left behind": left})
    else:
        for row in table:
            said = f"answers, pid {row['pid']}" if row["answers"] else f"DOES NOT ANSWER, pid {row['pid']}"
            if row["pid"] is None:
                said = "does not run" + (f", {row['left']} processes of it are left" if row["left"] else "")
            typer.echo(f"{row['name']:8} {said}  {row['address']}  log: {row['log']}")
        if left:
            typer.echo("\n".join([*left, "`make up` mends it"]))
    if left or not all(row["answers"] for row in table):
        raise typer.Exit(1)


def looked_at(service: Service) -> dict[str, Any]:
    """Whether a service runs and answers."""
    process = leader(service)
    return {
        "name": service.name, "pid": None if process is None else process.pid, "address": service.address,
        "answers": process is not None and service.healthy(process.create_time()), "log": str(service.log),
        "left": len(members(service)) if process is None else 0,
    }  # fmt: skip


def remains() -> list[str]:
    """What has nobody behind it at the server of the services, in words; nothing where it does not answer."""
    known = {service.name: service for service in services()}
    if leader(known["prefect"]) is None or not answers(f"{environment()['PREFECT_API_URL']}/health"):
        return []
    os.environ.update(environment())  # before Prefect is imported, for it reads them then
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return left_behind(client, leader(known[LATER]) is not None).shown()


if __name__ == "__main__":
    run_app(app)
