"""Messages reach the receiver once, and one that is down stops nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lerenet.notify import VARIABLE, notify, once, tell_champion
from tests.helpers.receiver import Receiver, receiver

# Apprise looks for a module that Python calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    (tmp_path / "line3").mkdir()
    monkeypatch.chdir(tmp_path / "line3")
    with receiver() as made:
        monkeypatch.setenv(VARIABLE, made.address)
        yield made


def test_a_webhook_gets_title_and_text(chat: Receiver) -> None:
    assert notify("version 7 rejected", [f"reason {n}" for n in range(9)], "lerenet verdict 7")
    (got,) = chat.got
    assert got["title"] == "line3: version 7 rejected"
    assert got["text"].splitlines() == [*(f"reason {n}" for n in range(4)), "see: lerenet verdict 7"]


def test_nobody_is_told_without_an_address(chat: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    assert not notify("a", [], "b")
    assert chat.got == []


def test_apprise_speaks_to_any_other_receiver(chat: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"{chat.address} {chat.address.replace('http', 'json', 1)}")
    assert notify("a", ["b"], "c")
    plain, apprise = chat.got
    assert (plain["title"], plain["text"]) == (apprise["title"], apprise["message"])


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/s3cret", "http://me:s3cret@host:port/", "http://", "nonsense://s3cret", "s3cret"],
)
def test_a_receiver_that_is_down_is_a_warning_without_its_address(
    chat: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    monkeypatch.setenv(VARIABLE, f"{address} {chat.address}")
    assert notify("a", [], "b")  # the others hear it
    assert len(chat.got) == 1
    assert "not told: line3: a; the receiver in LERENET_NOTIFY" in caplog.text
    assert "s3cret" not in caplog.text


def test_the_same_is_told_once_until_all_is_well_again(chat: Receiver) -> None:
    chat.status = 500
    once("champion", "broken", ["why"], "lerenet doctor")
    chat.status = 200
    for _ in range(3):
        once("champion", "broken", ["why"], "lerenet doctor")
    assert len(chat.got) == 2  # the first was not taken
    once("champion", "broken", ["otherwise"], "lerenet doctor")
    once("champion", "broken", [], "lerenet doctor")
    once("champion", "broken", ["otherwise"], "lerenet doctor")
    assert len(chat.got) == 4


def test_only_a_broken_champion_is_told(chat: Receiver) -> None:
    tell_champion("warning", "none yet", "make one")
    tell_champion("problem", "version 7: weights differ", "lerenet rollback")
    (got,) = chat.got
    assert got["title"] == "line3: the champion is broken"
    assert got["text"] == "version 7: weights differ\nlerenet rollback\nsee: lerenet doctor"
