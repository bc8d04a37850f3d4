"""The watcher: one event for each state of the data, none lost, none for the same bytes."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from flows import watch
from flows.dvc import StageLocked
from flows.watch import Seen, look
from lerenet.errors import LerenetError
from lerenet.files import signature
from tests.helpers.receiver import receiver


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A project with data; DVC's hash is the sum of their texts; the value collects the events."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")

    def add_data() -> None:
        text = "".join(path.read_text() for path in sorted(Path("data").iterdir()))
        Path("data.dvc").write_text(f"outs:\n- md5: {text}\n  path: data\n")

    sent: list[tuple[str, str]] = []
    monkeypatch.setattr(watch, "add_data", add_data)
    monkeypatch.setattr(watch, "announce", lambda md5, before: sent.append((md5, before)))
    return sent


def looks(state: Seen, count: int = 4) -> Seen:
    for _ in range(count):
        state = look(state)
    return state


def test_the_signature_sees_additions_removals_and_edits(tmp_path: Path) -> None:
    assert signature(tmp_path / "none") == ""
    seen = {signature(tmp_path)}
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_text("1")
    seen.add(signature(tmp_path))
    (tmp_path / "deep" / "a").write_text("22")
    seen.add(signature(tmp_path))
    (tmp_path / "deep" / "a").rename(tmp_path / "deep" / "b")
    seen.add(signature(tmp_path))
    assert len(seen) == 4
    assert signature(tmp_path) in seen


def test_a_change_is_announced_once(told: list[tuple[str, str]]) -> None:
    state = looks(Seen())
    assert told == [("a", "")]
    Path("data/b.txt").write_text("b")
    looks(state)
    assert told == [("a", ""), ("ab", "a")]


def test_data_that_still_change_are_left_alone(told: list[tuple[str, str]]) -> None:
    state = look(Seen())
    for number in range(3):  # an import writes file after file
        Path(f"data/{number}.txt").write_text(str(number))
        state = look(state)
    assert told == []
    looks(state)
    assert told == [("012a", "")]


def test_the_same_bytes_written_again_are_no_change(told: list[tuple[str, str]]) -> None:
    state = looks(Seen())
    Path("data/a.txt").unlink()
    Path("data/a.txt").write_text("a")
    looks(state)
    assert len(told) == 1


def test_a_change_while_the_server_is_down_is_announced_later(
    told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(md5: str, before: str) -> None:
        raise httpx.ConnectError("down")

    state = look(Seen())
    with monkeypatch.context() as patch:
        patch.setattr(watch, "announce", refuse)
        with pytest.raises(httpx.HTTPError):
            look(state)
    looks(state)
    assert told == [("a", "")]


def test_a_busy_dvc_is_asked_again(told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def busy() -> None:
        raise StageLocked("busy")

    state = look(Seen())
    with monkeypatch.context() as patch:
        patch.setattr(watch, "add_data", busy)
        with pytest.raises(StageLocked):
            look(state)
    looks(state)
    assert told == [("a", "")]


def test_a_new_hash_from_git_is_announced_and_not_overwritten(told: list[tuple[str, str]]) -> None:
    state = looks(Seen())
    pulled = "outs:\n- md5: other\n  path: data\n"
    Path("data.dvc").write_text(pulled)
    looks(state)
    assert told[1:] == [("other", "a")]
    assert Path("data.dvc").read_text() == pulled


def test_the_first_watcher_announces_only_what_the_pipeline_has_not_read(
    told: list[tuple[str, str]],
) -> None:
    lock = "stages:\n  catalog:\n    deps:\n    - path: data\n      md5: a\n"
    Path("dvc.lock").write_text(lock)
    looks(watch.load_state())
    assert told == []
    Path("dvc.lock").write_text(lock.replace("md5: a", "md5: old"))
    looks(watch.load_state())
    assert told == [("a", "old")]


def test_no_data_is_no_change(told: list[tuple[str, str]]) -> None:
    Path("data/a.txt").unlink()
    Path("data").rmdir()
    assert looks(Seen()) == Seen()
    assert told == []


def test_a_broken_champion_is_told_once_and_a_promotion_under_way_is_none(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = [("problem", "under way", ""), ("ok", "", ""), *[("problem", "weights differ", "roll back")] * 4]
    monkeypatch.setattr(watch, "CHAMPION_SECONDS", 0)
    with receiver() as chat:
        monkeypatch.setenv("LERENET_NOTIFY", chat.address)
        guard = watch.Guard()
        guard.look()  # there is none yet
        for state in states:
            monkeypatch.setattr(watch, "examined", lambda _uri, state=state: state)
            guard.look()
        monkeypatch.setattr(watch, "CHAMPION_SECONDS", 300)
        guard.look()
        monkeypatch.setattr(watch, "examined", lambda _uri: pytest.fail("looked too soon"))
        guard.look()
    (got,) = chat.got
    assert "weights differ" in got["text"]


def test_half_of_a_fetch_is_no_new_data(told: list[tuple[str, str]]) -> None:
    watch.PULLING.parent.mkdir()
    watch.PULLING.touch()
    assert looks(Seen()) == Seen()
    watch.PULLING.unlink()
    looks(Seen())
    assert told == [("a", "")]


def test_what_fails_in_a_look_is_tried_again(
    told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch.STATE.parent.mkdir()
    real = watch.write_json

    def full(*_words: object) -> None:
        raise LerenetError("no space left", "free some")

    monkeypatch.setattr(watch, "write_json", full)
    state = watch.look_and_keep(Seen())
    assert state == Seen()
    assert "no space left" in caplog.text
    monkeypatch.setattr(watch, "write_json", real)
    for _ in range(4):
        state = watch.look_and_keep(state)
    assert told == [("a", "")]
    assert watch.BEAT.exists()
