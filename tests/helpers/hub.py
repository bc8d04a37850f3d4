"""A hub of weights on this machine: answers as the Hugging Face hub does, and misbehaves on demand."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34
STORE = "/store/"  # where files lie, on a host of another name: the hub redirects to it


@dataclass
class Hub:
    """What the server holds and how it behaves.

    Attributes:
        files: ``owner/name/file`` -> content.
        digests: ``owner/name/file`` -> SHA-256 to announce, if not that of the content.
        status: answer of every request, if not that of the hub; ``error`` its X-Error-Code.
        breaks: how many downloads end early, after ``sent`` bytes.
        plain: a server of files, that knows no commits.
        asked: ``METHOD path``, with the Range that was asked for, in order.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    status: int = 0
    error: str = ""
    breaks: int = 0
    sent: int = 0
    plain: bool = False
    asked: list[str] = field(default_factory=list)
    address: str = ""


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub without files, at ``hub.address``; afterwards nothing answers there."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.path.startswith("/api/"):
            return self._end(404, {})  # the client's statistics are not the matter here
        span = self.headers.get("Range", "")
        self.hub.asked.append(f"{self.command} {self.path} {span}".strip())
        if self.hub.status:
            return self._end(self.hub.status, {"X-Error-Code": self.hub.error} if self.hub.error else {})
        if self.path.startswith(STORE):
            return self._send(self.hub.files[self.path.removeprefix(STORE)], span)
        repository, _, rest = self.path.removeprefix("/").partition("/resolve/")
        name = f"{repository}/{rest.partition('/')[2]}"  # the revision is between
        if name not in self.hub.files:
            known = any(file.startswith(f"{repository}/") for file in self.hub.files)
            missing = "EntryNotFound" if known else "RepoNotFound"
            return self._end(404, {} if self.hub.plain else {"X-Error-Code": missing})
        content = self.hub.files[name]
        if self.hub.plain:
            return self._send(content, span)
        digest = self.hub.digests.get(name, hashlib.sha256(content).hexdigest())
        self._end(302, {
            "Location": f"http://localhost:{self.server.server_address[1]}{STORE}{name}",
            "X-Repo-Commit": COMMIT, "ETag": '"pointer"',
            "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content)),
        })  # fmt: skip
        return None

    def _send(self, content: bytes, span: str) -> None:
        start = int(span.removeprefix("bytes=").partition("-")[0]) if span else 0
        part = content[start:]
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(part)))
        if span:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.breaks:
            self.hub.breaks -= 1
            self.wfile.write(part[: self.hub.sent])
            self.close_connection = True
        else:
            self.wfile.write(part)

    def _end(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()
