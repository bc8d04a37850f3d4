"""``lerenet ui``: the inspector's page in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from lerenet.cli.enrolment import FOLDER, From
from lerenet.cli.predict import Model


def ui(
    host: Annotated[
        str, typer.Option(help="Address to serve on; others than this machine's need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 8088,
    token: Annotated[str, typer.Option(envvar="LERENET_PAGE_TOKEN", help="Whoever has it is let in.")] = "",
    enrolled: From = FOLDER,
    model: Model = "champion",
    show: Annotated[bool, typer.Option("--show", help="Open a browser.")] = False,
) -> None:
    """Serve the inspector's page: inspect photos, enrol a class, correct masks, see what the gate said."""
    from lerenet.page.serve import serve

    asked = f"/?token={token}" if token else ""
    typer.echo(f"http://{host}:{port}{asked} (Ctrl-C stops)")
    serve(model, enrolled, host, port, token, show)
