"""Each decision is told once, whoever made it and wherever its process died."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import watch
from lerenet.notify import VARIABLE
from lerenet.params import Params
from lerenet.registry import ledger, registering
from lerenet.registry import versions as registry
from lerenet.registry.candidate import collect
from lerenet.registry.promote import promote, rollback
from lerenet.registry.telling import tell
from tests.helpers.receiver import Receiver, receiver
from tests.helpers.registry import make_project

pytestmark = [
    pytest.mark.whole,
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
    pytest.mark.usefixtures("little_code"),
]


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as made:
        monkeypatch.setenv(VARIABLE, made.address)
        yield made


def offered(root: Path, quality: float) -> tuple[str, Params]:
    params = make_project(root, quality=quality)
    return registering.register(collect(params), params), params


def titles(chat: Receiver) -> list[str]:
    return [got["title"].partition(": ")[2] for got in chat.got]


def test_verdicts_and_rollbacks_by_hand_are_told_and_their_repetitions_are_not(
    project: Path, chat: Receiver
) -> None:
    for quality in (0.4, 0.6, 0.3):
        number, params = offered(project, quality)
        promote(number, params)
        promote(number, params)
    rollback(operator="ada", reason="2 is bad")
    rollback(operator="ada", reason="2 is bad")
    tell()
    assert titles(chat) == [
        "version 1 first", "version 2 promoted", "version 3 rejected", "version 1 is champion again (not 2)",
    ]  # fmt: skip
    assert chat.got[0]["text"].endswith("see: lerenet verdict 1")
    assert chat.got[-1]["text"].splitlines() == ["2 is bad", "asked by ada", "see: lerenet ledger"]


def test_the_watcher_tells_what_a_process_decided_that_died(
    project: Path, chat: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, params = offered(project, 0.5)
    set_champion = registry.set_champion

    def dies(version: str) -> None:
        set_champion(version)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(registry, "set_champion", dies)
        promote(number, params)
    assert titles(chat) == []
    monkeypatch.setattr(watch, "CHAMPION_SECONDS", 0)
    guard = watch.Guard()
    guard.look()
    guard.look()
    assert titles(chat) == ["version 1 first"]


def test_what_was_interrupted_is_told_once_it_is_finished_or_undone(
    project: Path, chat: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, params = offered(project, 0.4)
    promote(first, params)
    second, params = offered(project, 0.6)

    def dies(version: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(registry, "set_champion", dies)
        promote(second, params)
    tell()
    assert titles(chat)[1:] == []
    third, params = offered(project, 0.2)
    promote(third, params)
    assert titles(chat)[1:] == ["version 1 stays champion, a change was undone (not 2)", "version 3 rejected"]


def test_a_receiver_that_was_down_hears_it_later(project: Path, chat: Receiver) -> None:
    chat.status = 500
    for quality in (0.4, 0.6):
        number, params = offered(project, quality)
        assert promote(number, params).promotes  # nobody waits for the receiver
    before = len(chat.got)
    chat.status = 200
    tell()
    tell()
    assert titles(chat)[before:] == ["version 1 first", "version 2 promoted"]
    assert len(ledger.read()) == 2


def test_a_shell_that_knows_no_receiver_leaves_it_to_the_watcher(
    project: Path, chat: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as shell:
        shell.delenv(VARIABLE)
        for quality in (0.4, 0.6):
            number, params = offered(project, quality)
            promote(number, params)
    tell()
    assert titles(chat) == ["version 2 promoted"]  # never told from: the newest is news
    with monkeypatch.context() as shell:
        shell.delenv(VARIABLE)
        rollback(operator="ada", reason="2 is bad")
    tell()
    assert titles(chat)[1:] == ["version 1 is champion again (not 2)"]


def test_what_is_older_than_a_week_is_no_news(
    project: Path, chat: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, params = offered(project, 0.4)
    with monkeypatch.context() as later:
        later.setattr("lerenet.registry.telling.DAYS", 0.0)
        promote(number, params)
    tell()
    assert chat.got == []
    promote(*offered(project, 0.2))
    assert titles(chat) == ["version 2 rejected"]


def test_what_goes_wrong_in_telling_undoes_nothing(
    project: Path, chat: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise TimeoutError("told.lock")

    number, params = offered(project, 0.4)
    with monkeypatch.context() as broken:
        broken.setattr("lerenet.registry.promote.telling.tell", fails)
        assert promote(number, params).promotes
    assert "not told yet" in caplog.text
    tell()
    assert titles(chat) == ["version 1 first"]


@pytest.mark.parametrize("how", ["rollback", "next"])
def test_a_promotion_that_was_taken_back_was_never_one_and_forced_again_it_is(
    project: Path, chat: Receiver, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    numbers = []
    for quality in (0.4, 0.6):
        number, params = offered(project, quality)
        numbers.append(number)
    promote(numbers[0], params)

    def dies(version: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as shell, pytest.raises(KeyboardInterrupt):
        shell.delenv(VARIABLE)
        shell.setattr(registry, "set_champion", dies)
        promote(numbers[1], params)
    with monkeypatch.context() as shell:
        shell.delenv(VARIABLE)
        if how == "rollback":
            rollback(operator="ada", reason="not yet")
        else:
            third, params = offered(project, 0.2)
            promote(third, params)
        promote(numbers[1], params, force=True, operator="ada", reason="now")
    tell()
    told = titles(chat)[1:]
    assert told[0] == "version 1 stays champion, a change was undone (not 2)"
    assert told[-1] == "version 2 forced"
    assert "version 2 promoted" not in told
