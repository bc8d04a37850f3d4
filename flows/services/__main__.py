"""``python -m flows.services up | down | status``: what ``make up`` and its like call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from filelock import FileLock

from flows.services.processes import FOLDER, leader, members, start, stop
from flows.services.register import register
from flows.services.standing import environment, services
from lerenet.cli.terminal import run_app

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
LATER = "worker"  # needs pool and deployments; they are made before it starts


def _lock() -> FileLock:
    FOLDER.mkdir(exist_ok=True)
    return FileLock(FOLDER / "lock")


@app.command()
def up(
    only: Annotated[
        list[str] | None, typer.Argument(help="Names of services; all when none is given.")
    ] = None,
) -> None:
    """Start what does not run, in order, each when the one before answers."""
    with _lock():
        for service in services():
            if service.name == LATER and not only:
                register(environment())
                typer.echo("deployments and automations: registered")
            if only and service.name not in only:
                continue
            runs = leader(service) is not None
            start(service)
            typer.echo(f"{service.name}: {'ran already' if runs else 'started'} {service.address}".rstrip())


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
def status() -> None:
    """Say of each whether it runs and answers; status 1 when one does not."""
    good = True
    for service in services():
        process = leader(service)
        healthy = process is not None and service.healthy(process.create_time())
        good &= healthy
        if process is None:
            left = len(members(service))
            said = f"does not run{f', {left} processes of it are left' if left else ''}"
        else:
            said = f"{'answers' if healthy else 'DOES NOT ANSWER'}, pid {process.pid}"
        typer.echo(f"{service.name:8} {said}  {service.address}  log: {service.log}")
    if not good:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_app(app)
