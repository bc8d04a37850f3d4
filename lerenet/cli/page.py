"""``lerenet ui``: the inspector's page in a browser; ``lerenet label-studio``: predictions for that tool."""

from __future__ import annotations

from pathlib import Path
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
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="Name or address under which others reach it, a proxy's too; repeat it."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Open a browser.")] = False,
) -> None:
    """Serve the inspector's page: inspect photos, enrol a class, correct masks, see what the gate said."""
    from urllib.parse import quote

    from lerenet.page.serve import serve

    asked = f"/?token={quote(token)}" if token else ""
    typer.echo(f"http://{names[0] if names else host}:{port}{asked} (Ctrl-C stops)")
    serve(model, enrolled, host, port, token, names or (), show)


def label_studio(
    studio: Annotated[
        str, typer.Option(help="Address of Label Studio; images come from there.")
    ] = "http://127.0.0.1:8080",
    token: Annotated[str, typer.Option(envvar="LABEL_STUDIO_API_KEY", help="Of Label Studio.")] = "",
    files: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that its local storage serves, on this machine."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 9090,
    enrolled: From = FOLDER,
    model: Model = "champion",
) -> None:
    """Serve predictions to Label Studio, as its machine-learning backend."""
    import uvicorn

    from lerenet.page.desk import Desk
    from lerenet.page.label_studio import Source, backend

    typer.echo(f"http://{host}:{port} (Ctrl-C stops): add it as a model in the project's settings")
    desk = Desk(Path(), model, enrolled)
    uvicorn.run(backend(desk, Source(studio, token, files)), host=host, port=port, log_level="warning")
