"""Who is let in: this machine's own browsers, or whoever holds the token where the page is served to others."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[..., Awaitable[Any]], Callable[..., Awaitable[None]]], Awaitable[None]]
LOCAL = ("127.0.0.1", "localhost", "[::1]")
COOKIE = "lerenet_page"
HEALTH = "/health"  # says that the page stands, to whoever asks
POLICY = (  # nothing is loaded from elsewhere, no other page frames this one
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws: wss:; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)


class Gate:
    """Middleware (ASGI): refuses other hosts' names and other pages' requests, and asks for the token.

    Whoever brings the token gets a cookie that stands for it while the page runs; the token itself is kept nowhere.

    Args:
        app: what is behind.
        token: asked for; empty: not.
        hosts: names under which the page is served, beside this machine's own; a proxy may serve them on any port.
    """

    def __init__(self, app: App, token: str = "", hosts: tuple[str, ...] = ()) -> None:
        self.app, self.token, self.hosts = app, token, set(hosts)
        self.guests: set[str] = set()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Let a request through, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        if not self._own(headers.get("host", ""), headers.get("origin", "")):
            return await _refuse(
                scope, send, 403, "this page answers to its own address only (`--name` says others)"
            )
        if scope["type"] == "http" and scope["path"] == HEALTH:
            return await _answer(send, 200, "ok")
        if self.token and not self.guests & _cookies(headers.get("cookie", "")):
            given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
            if scope["type"] == "http" and hmac.compare_digest(given.encode(), self.token.encode()):
                guest = secrets.token_hex(16)
                self.guests.add(guest)
                return await _let_in(send, guest, scope["path"])
            return await _refuse(
                scope, send, 401, "open the address with ?token=... that `lerenet ui` printed"
            )
        await self.app(scope, receive, _with_policy(send))

    def _own(self, host: str, origin: str) -> bool:
        """Whether a request is for this page, and of it if of any."""
        named = _name(host) in self.hosts
        if not named and _name(host) not in LOCAL:
            return False
        came = urlsplit(origin).netloc
        return not origin or came == host or (_name(came) in self.hosts)


def _cookies(header: str) -> set[str]:
    """The values of our cookie, whatever others are there."""
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return {value for name, _, value in pairs if name == COOKIE}


def _name(host: str) -> str:
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host


def _with_policy(send: Any) -> Any:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", []), (b"content-security-policy", POLICY.encode()),
                (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"),
            ]  # fmt: skip
        await send(message)

    return sent


async def _let_in(send: Any, guest: str, path: str) -> None:
    cookie = f"{COOKIE}={guest}; Path=/; HttpOnly; SameSite=Lax"
    headers = [(b"location", path.encode()), (b"set-cookie", cookie.encode())]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(scope: Scope, send: Any, status: int, said: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": said})
        return
    await _answer(send, status, said)


async def _answer(send: Any, status: int, said: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": said.encode()})
