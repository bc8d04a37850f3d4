"""The page's server: addresses of photos and masks, one visit a browser, nothing from elsewhere."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil
from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, PlainTextResponse
from nicegui import app, ui

from lerenet import layout
from lerenet.data.importing.replacing import changing
from lerenet.errors import DataError, LerenetError
from lerenet.files import alone, recover_dir
from lerenet.page.desk import Desk
from lerenet.page.gate import LOCAL, Gate
from lerenet.page.photos import KEY, LARGEST
from lerenet.page.visit import Visit

TITLE = "lerenet"
FOLDER = "lerenet-page-"  # and the number of the process
AWAY = 900.0  # seconds that a browser may be away: a tablet sleeps


def routes(desk: Desk) -> None:
    """Photos out, masks in and out, verdicts and answers; each by a key that nobody guesses."""

    @app.get("/photo/{key}")
    def photo(key: str) -> Response:
        path = desk.photos.picture(key)
        return Response(status_code=404) if path is None else FileResponse(path, media_type="image/jpeg")

    @app.get("/mask/{key}")
    def mask(key: str) -> Response:
        one = desk.photos.get(key)
        drawn = None if one is None else desk.photos.transparent(one)
        headers = {"cache-control": "no-store"}
        return (
            Response(status_code=404)
            if drawn is None
            else Response(drawn, media_type="image/png", headers=headers)
        )

    @app.post("/mask/{key}")
    async def draw(key: str, request: Request) -> Response:
        one = desk.photos.get(key)
        if one is None:
            return PlainTextResponse("no such photo", 404)
        if int(request.headers.get("content-length") or LARGEST + 1) > LARGEST:
            return PlainTextResponse("too large", 413)
        try:
            await run_in_threadpool(desk.photos.draw, one, await request.body())
        except LerenetError as error:
            return PlainTextResponse(str(error), 400 if isinstance(error, DataError) else 503)
        return PlainTextResponse("kept")

    @app.get("/overlay/{visit}/{name}")
    def overlay(visit: str, name: str) -> Response:
        path = desk.folder / "visits" / visit / "found" / name
        if not KEY.fullmatch(visit) or Path(name).name != name or not path.is_file():
            return Response(status_code=404)
        return FileResponse(path, media_type="image/png", headers={"cache-control": "no-store"})

    @app.get("/verdict/{number}")
    def verdict(number: str) -> Response:
        try:
            page = desk.verdict(number)
        except LerenetError as error:
            return PlainTextResponse(str(error), 404)
        return Response(page, media_type="text/html")


def serve(
    model: str,
    drafts: Path,
    host: str = "127.0.0.1",
    port: int = 8080,
    token: str = "",
    names: Sequence[str] = (),
    show: bool = False,
) -> None:
    """Serve the page until it is stopped.

    Args:
        token: whoever has it is let in; empty: this machine's browsers are, which is refused for another ``host``.
        names: under which others reach it.

    Raises:
        DataError: a host that others reach, without a token or a name.
    """
    if host not in LOCAL and not (token and names):
        raise DataError(
            f"{host}: others reach it", "give a --token, and the --name by which they do; or 127.0.0.1"
        )
    sweep()
    mend(layout.DATA)
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))
    folder.chmod(0o700)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn passes it on when it has stopped
    try:
        prepare(Desk(folder, model, drafts), token, tuple(names))
        ui.run(
            host=host, port=port, title=TITLE, show=show, reload=False, show_welcome_message=False, favicon="🔍",
            storage_secret=None, uvicorn_logging_level="warning", language="en-US", reconnect_timeout=AWAY,
        )  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """Remove the folders of pages that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*-*"):
        number = folder.name.removeprefix(FOLDER).partition("-")[0]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def mend(data: Path) -> None:
    """Bring back the data folder where a correction was killed between its last two steps."""
    with alone(changing(data)):
        recover_dir(data)


def prepare(desk: Desk, token: str = "", hosts: tuple[str, ...] = ()) -> None:
    """Routes, gate and page of a desk."""
    routes(desk)
    app.add_middleware(Gate, token=token, hosts=hosts)

    @ui.page("/")
    def index() -> None:
        Visit(desk).build()
