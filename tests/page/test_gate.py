"""Who is let in: this machine's browsers under its own names, others with the token; never another page."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient

from lerenet.errors import DataError
from lerenet.page.gate import Gate
from lerenet.page.serve import serve


def client(token: str = "", *names: str) -> TestClient:
    behind = FastAPI()

    @behind.api_route("/", methods=["GET", "POST"])
    def page() -> PlainTextResponse:
        return PlainTextResponse("page")

    @behind.websocket("/ws")
    async def socket(one: WebSocket) -> None:
        await one.accept()
        await one.send_text("hello")
        await one.close()

    return TestClient(Gate(behind, token, names), base_url="http://127.0.0.1:8088")


def test_this_machine_is_let_in_and_told_to_load_nothing_from_elsewhere() -> None:
    answer = client().get("/")
    assert (answer.status_code, answer.text) == (200, "page")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    with client().websocket_connect("ws://127.0.0.1:8088/ws") as socket:
        assert socket.receive_text() == "hello"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8088"},  # a name that leads here by another's DNS
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:5000"},  # a page of another program on this machine
        {"origin": "null"},
    ],
)
def test_other_hosts_and_other_pages_are_refused(headers: dict[str, str]) -> None:
    assert client().get("/", headers=headers).status_code == 403
    assert client().post("/", headers=headers).status_code == 403
    with (
        pytest.raises(WebSocketDisconnect),
        client().websocket_connect("ws://127.0.0.1:8088/ws", headers=headers),
    ):
        pass


def test_its_own_page_may_post() -> None:
    assert client().post("/", headers={"origin": "http://127.0.0.1:8088"}).status_code == 200


def test_the_token_is_asked_for_once() -> None:
    browser = client("secret")
    assert browser.get("/").status_code == 401
    assert browser.get("/?token=wrong").status_code == 401
    with pytest.raises(WebSocketDisconnect), browser.websocket_connect("ws://127.0.0.1:8088/ws"):
        pass
    assert browser.get("/health").text == "ok"
    came = browser.get("/?token=secret")
    assert (came.status_code, came.text, str(came.url)) == (200, "page", "http://127.0.0.1:8088/")
    assert browser.get("/").status_code == 200
    with browser.websocket_connect("ws://127.0.0.1:8088/ws") as socket:
        assert socket.receive_text() == "hello"


def test_others_are_not_served_without_a_token() -> None:
    with pytest.raises(DataError, match="--token"):
        serve("matching", Path("enrolments"), host="0.0.0.0")
    with pytest.raises(DataError, match="--name"):
        serve("matching", Path("enrolments"), host="0.0.0.0", token="secret")


def test_a_name_serves_others_behind_a_proxy_too() -> None:
    gate = client("secret", "line.example")
    for headers in (
        {"host": "line.example:8088"},
        {"host": "line.example", "origin": "https://line.example"},
        {"host": "127.0.0.1:8088", "origin": "https://line.example"},
    ):
        assert gate.get("/?token=secret", headers=headers, follow_redirects=False).status_code in (200, 303)
        assert gate.post("/?token=secret", headers=headers, follow_redirects=False).status_code in (200, 303)
    assert gate.get("/", headers={"host": "evil.example"}).status_code == 403


def test_cookies_of_other_programs_do_not_matter() -> None:
    browser = client("secret")
    browser.get("/?token=secret")
    (ours,) = [cookie for cookie in browser.cookies.jar if cookie.name == "lerenet_page"]
    assert "secret" not in str(ours.value)
    odd = f'a={{"b": 1}}; c d=e; lerenet_page={ours.value}; f'
    assert client("secret").get("/", headers={"cookie": odd}).status_code == 401
    browser.cookies.clear()
    assert browser.get("/", headers={"cookie": odd}).status_code == 200
