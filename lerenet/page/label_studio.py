"""A backend of Label Studio: it asks for predictions on its tasks, and gets the marks of the enrolled classes.

Its protocol: ``GET /health``, ``POST /setup`` with the labelling set-up, ``POST /predict`` with tasks. Images are
fetched from the Label Studio that was named and from nowhere else, or read from a folder of this machine.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import parse_qs, unquote, urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener
from xml.etree import ElementTree

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from lerenet.annotations.label_studio import tasks
from lerenet.annotations.regions import AnnotatedImage, Region
from lerenet.data.images import read_image
from lerenet.enrolment.inspect import Inspection
from lerenet.errors import DataError, LerenetError
from lerenet.page.desk import Desk
from lerenet.page.photos import LARGEST

log = logging.getLogger(__name__)
SECONDS = 60


class Setup(BaseModel):
    """What Label Studio says of a project."""

    model_config = ConfigDict(extra="allow")
    labelling: str = ""


class Asked(BaseModel):
    """Tasks to predict."""

    model_config = ConfigDict(extra="allow")
    tasks: list[dict[str, Any]]
    label_config: str | None = None


class Brushes:
    """What a labelling set-up calls its brush labels, and what they paint on.

    Raises:
        DataError: no XML, or no brush labels for an image.
    """

    def __init__(self, config: str) -> None:
        if "<!" in config:
            raise DataError("the labelling set-up declares entities", "leave them out")
        try:
            root = ElementTree.fromstring(config)
        except ElementTree.ParseError as error:
            raise DataError(f"the labelling set-up is no XML: {error}", "mend it in Label Studio") from error
        brush, image = root.find(".//BrushLabels"), root.find(".//Image")
        if brush is None or image is None:
            raise DataError(
                "the labelling set-up has no BrushLabels on an Image", "add them; docs/annotations.md"
            )
        self.name, self.image = brush.get("name", "tag"), image.get("name", "image")
        self.key = image.get("value", "$image").removeprefix("$")
        self.labels = {str(label.get("value")) for label in brush.iter("Label")}


class _Here(HTTPRedirectHandler):
    """Follows only to where the request went: a token is nobody else's."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """None where another host is named, which is an error then."""
        if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Source:
    """Where images come from.

    Args:
        studio: address of Label Studio.
        token: that it lets in.
        files: folder of this machine that its local storage serves; None: none.
    """

    def __init__(self, studio: str, token: str = "", files: Path | None = None) -> None:
        self.studio, self.token, self.files = studio.rstrip("/") + "/", token, files

    def read(self, address: str, folder: Path) -> Path:
        """The image of an address as a file.

        Raises:
            DataError: it is elsewhere, too large, or can't be had.
        """
        parts = urlsplit(urljoin(self.studio, address))
        local = parse_qs(parts.query).get("d", [""])[0] if parts.path.endswith("/local-files/") else ""
        if local and self.files is not None:
            path = (self.files / unquote(local)).resolve()
            if not path.is_relative_to(self.files.resolve()) or not path.is_file():
                raise DataError(f"{local}: not in {self.files}", "name the folder with --files")
            return path
        if (parts.scheme, parts.netloc) != urlsplit(self.studio)[:2]:
            raise DataError(
                f"{address}: not of {self.studio}", "images are taken from the Label Studio named alone"
            )
        head = {"Authorization": f"Token {self.token}"} if self.token else {}
        try:
            with build_opener(_Here).open(Request(parts.geturl(), headers=head), timeout=SECONDS) as reply:
                content = reply.read(LARGEST + 1)
        except (HTTPException, URLError, OSError, ValueError) as error:
            raise DataError(f"{address}: {error}", "check --studio and --token") from error
        if len(content) > LARGEST:
            raise DataError(f"{address}: over {LARGEST // 1_000_000} MB", "scale it down")
        path = folder / "image"
        path.write_bytes(content)
        return path


def backend(desk: Desk, source: Source) -> FastAPI:
    """The server."""
    served = FastAPI()

    @served.exception_handler(LerenetError)
    def refused(_request: Any, error: LerenetError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 400)

    @served.get("/")
    @served.get("/health")
    def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "lerenet"}

    @served.post("/setup")
    def setup(_asked: Setup) -> dict[str, str]:
        return {"model_version": version()}

    @served.post("/webhook")
    def webhook() -> dict[str, str]:
        return {"status": "corrections come in by `lerenet data import`"}

    @served.post("/predict")
    def predict(asked: Asked) -> dict[str, Any]:
        brushes = Brushes(asked.label_config or "")
        found, errors = [], []
        for task in asked.tasks:
            try:
                found.append(_predicted(task, brushes))
            except DataError as error:
                errors.append(error)
                found.append({"result": [], "score": 0.0, "model_version": version()})
                log.warning("task %s: %s", task.get("id"), error)
        if errors and len(errors) == len(found):
            raise errors[0]
        return {"results": found, "model_version": version()}

    def version() -> str:
        loaded = desk.inspector().loaded
        return f"{loaded.source} {loaded.version}".strip()

    def _predicted(task: dict[str, Any], brushes: Brushes) -> dict[str, Any]:
        address = (task.get("data") or {}).get(brushes.key)
        if not isinstance(address, str):
            raise DataError(f"task {task.get('id')}: has no {brushes.key}", "check the labelling set-up")
        with tempfile.TemporaryDirectory(prefix="lerenet-") as folder:
            picture = read_image(source.read(address, Path(folder)))
        inspector = desk.inspector()
        image = annotated(inspector(picture), [one.name for one in inspector.classes], brushes.labels)
        (made,) = tasks([image], version())
        answer: dict[str, Any] = made["predictions"][0]
        for result in answer["result"]:
            result |= {"from_name": brushes.name, "to_name": brushes.image}
        return answer

    return served


def annotated(found: Inspection, names: Sequence[str], labels: set[str]) -> AnnotatedImage:
    """The marks of an inspection whose classes a labelling set-up knows."""
    scores = {one.name: one.score for one in found.classes}
    regions = [
        Region(name, found.marks == number, scores[name])
        for number, name in enumerate(names, 1)
        if name in labels and (found.marks == number).any()
    ]
    return AnnotatedImage("", (found.marks.shape[0], found.marks.shape[1]), tuple(regions))
