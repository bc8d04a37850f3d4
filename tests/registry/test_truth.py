"""One truth about the champion: what was interrupted is seen, finished or undone; what was changed by hand is said."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from lerenet import layout
from lerenet.cli.champion import examined
from lerenet.errors import PromotionError, TrackingError
from lerenet.params import Params
from lerenet.registry import copies, ledger, registering, truth
from lerenet.registry import versions as registry
from lerenet.registry.candidate import collect
from lerenet.registry.lineage import trace
from lerenet.registry.promote import Rollback, promote, rollback
from tests.helpers.registry import begin, make_project

pytestmark = [
    pytest.mark.whole,
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
    pytest.mark.usefixtures("little_code"),
]


def offered(root: Path, quality: float) -> tuple[str, Params]:
    params = make_project(root, quality=quality)
    return registering.register(collect(params), params), params


@pytest.fixture
def three(project: Path) -> tuple[str, str, str, Params]:
    """Versions 1 and 2, champions one after the other, and 3, whose forced promotion broke off before the alias."""
    numbers = []
    for quality in (0.4, 0.6):
        number, params = offered(project, quality)
        promote(number, params)
        numbers.append(number)
    third, params = offered(project, 0.5)
    crashed("promote", third, params, force=True, operator="ada", reason="try it")
    return numbers[0], numbers[1], third, params


def by_hand(number: str) -> None:
    """The alias alone moves."""
    MlflowClient().set_registered_model_alias("lerenet", "champion", number)


def crashed(name: str, *words: Any, after: bool = False, **named: Any) -> None:
    """``promote`` or ``rollback`` that breaks off before the alias moves, or right after."""

    def crash(number: str) -> None:
        if after:
            by_hand(number)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(registry, "set_champion", crash)
        work: Any = {"promote": promote, "rollback": rollback}[name]
        work(*words, **named)


def champion() -> str:
    found = registry.champion()
    return found.number if found else ""


def test_a_rollback_takes_back_what_was_interrupted_and_not_the_champion(three: Any) -> None:
    _, second, third, _ = three
    state, found, remedy = examined()
    assert state == "problem"
    assert f"promote, {second} -> {third}" in found
    assert "lerenet rollback" in remedy
    assert f"lerenet promote {third} --force --reason" in remedy
    assert rollback(reason="3 is bad") == Rollback(third, second)
    assert champion() == second
    assert examined()[0] == "ok"
    assert ledger.last_change()["reason"] == "3 is bad"
    assert rollback(reason="3 is bad") == Rollback(third, second, again=True)


def test_the_same_promotion_finishes_it_and_another_undoes_it_first(three: Any, project: Path) -> None:
    _, second, third, params = three
    better, _ = offered(project, 0.9)
    assert promote(better, params).outcome == "promoted"
    assert [(entry["version"], entry["previous"]) for entry in ledger.read()[-2:]] == [
        (second, third),
        (better, second),
    ]
    assert champion() == better
    assert rollback() == Rollback(better, second)


def test_what_was_undone_leaves_every_version_its_predecessor(three: Any, project: Path) -> None:
    first, second, third, params = three
    worse, _ = offered(project, 0.2)
    assert promote(worse, params).outcome == "rejected"
    assert ledger.last_change()["outcome"] == "undone"
    assert registry.by_number(third).tags["previous_champion"] == ""
    crashed("promote", first, params, force=True, operator="ada", reason="audit")
    assert promote(worse, params).outcome == "rejected"
    assert rollback() == Rollback(second, first)  # nobody rolled back yet: `undone` is none
    with pytest.raises(PromotionError, match="no predecessor"):
        rollback(leave=first)
    promote(third, params, force=True, operator="ada", reason="again")
    assert rollback() == Rollback(third, first)


def test_a_promotion_that_was_interrupted_and_is_judged_otherwise_on_repetition_is_undone(
    project: Path,
) -> None:
    first, params = offered(project, 0.6)
    promote(first, params)
    worse, _ = offered(project, 0.2)
    crashed("promote", worse, params, force=True, operator="ada", reason="audit")
    assert "interrupted" in examined()[1]
    assert promote(worse, params).outcome == "rejected"  # as a retraining asks, without force
    assert [entry["outcome"] for entry in ledger.read()[1:]] == ["forced", "undone", "rejected"]
    assert examined()[0] == "ok"
    assert champion() == first
    assert registry.by_number(worse).tags["previous_champion"] == ""


@pytest.mark.parametrize("quality", [0.9, 0.2], ids=["promoted", "rejected"])
def test_a_rollback_that_was_interrupted_is_finished_by_the_next_promotion(
    project: Path, quality: float
) -> None:
    first, params = offered(project, 0.4)
    promote(first, params)
    second, _ = offered(project, 0.6)
    promote(second, params)
    crashed("rollback", reason="false alarms")
    assert champion() == second
    assert "as the next promotion does" in examined()[2]
    other, _ = offered(project, quality)
    outcome = promote(other, params).outcome
    assert outcome == ("promoted" if quality > 0.5 else "rejected")
    assert [(entry["event"], entry["version"]) for entry in ledger.read()[2:]] == [
        ("rollback", first),
        ("promote" if quality > 0.5 else "decide", other),
    ]
    if quality > 0.5:
        assert rollback() == Rollback(other, first)
    else:
        assert rollback() == Rollback(second, first, again=True)
    assert champion() == first
    assert examined()[0] == "ok"


def test_a_rollback_that_can_not_be_finished_is_undone_by_force_only(project: Path) -> None:
    first, params = offered(project, 0.4)
    promote(first, params)
    second, _ = offered(project, 0.6)
    promote(second, params)
    crashed("rollback", reason="false alarms")
    (registry.resolve(first) / layout.WEIGHTS).write_bytes(b"rotten")
    other, _ = offered(project, 0.5)
    with pytest.raises(PromotionError, match=f"version {first}, the predecessor of {second}, can't be used"):
        promote(other, params)
    promote(other, params, force=True, operator="ada", reason="over")
    assert [entry["outcome"] for entry in ledger.read()[2:]] == ["rollback", "undone", "forced"]
    assert rollback() == Rollback(other, second)


def test_a_crash_after_the_alias_is_noted_by_the_next_command(project: Path) -> None:
    """Else an alias that somebody moves by hand later would look like a change that was interrupted."""
    first, params = offered(project, 0.4)
    promote(first, params)
    second, _ = offered(project, 0.6)
    crashed("promote", second, params, after=True)
    assert champion() == second
    promote(second, params)
    by_hand(first)
    assert truth.interrupted(registry.champion()) == {}


def test_a_rollback_is_seen_as_interrupted_though_the_promotion_before_broke_off_after_the_alias(
    project: Path,
) -> None:
    first, params = offered(project, 0.4)
    promote(first, params)
    second, _ = offered(project, 0.6)
    crashed("promote", second, params, after=True)
    crashed("rollback")
    assert "interrupted" in examined()[1]
    assert rollback() == Rollback(second, first)


# -- several checkouts ------------------------------------------------------------------------------


@pytest.fixture
def checkouts(project: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, Params, Path, Path]:
    """Versions 1 and 2, champions one after the other by the first checkout, and the two checkouts' folders."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    first, params = offered(project, 0.4)
    promote(first, params)
    second, _ = offered(project, 0.6)
    promote(second, params)
    other = project / "other"
    other.mkdir()
    shutil.copyfile("params.yaml", other / "params.yaml")
    return first, second, params, project, other


def test_two_checkouts_of_one_registry_do_not_block_each_other(
    checkouts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, params, one, other = checkouts
    monkeypatch.chdir(other)
    truth.require_whole()
    assert "decided elsewhere" in examined()[1]
    third, _ = offered(other, 0.9)
    assert promote(third, params).outcome == "promoted"
    assert rollback() == Rollback(third, second)
    monkeypatch.chdir(one)
    assert examined()[0] == "ok"
    assert rollback() == Rollback(second, first)
    monkeypatch.chdir(other)
    assert examined()[0] == "ok"
    assert promote(third, params).outcome == "promoted"
    for folder in (one, other):  # each is still seen to be cut off
        monkeypatch.chdir(folder)
        truth.require_whole()
        layout.LEDGER.write_bytes(b"".join(lines()[:-1]))
        with pytest.raises(PromotionError, match="at its end are gone"):
            truth.require_whole()


def test_what_one_checkout_carried_out_and_another_took_back_was_not_interrupted(
    checkouts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, params, one, other = checkouts
    assert rollback() == Rollback(second, first)
    monkeypatch.chdir(other)
    promote(second, params)
    monkeypatch.chdir(one)
    assert champion() == second
    assert examined()[0] == "ok"
    worse, _ = offered(one, 0.2)
    promote(worse, params)
    assert champion() == second


def test_a_copy_of_a_ledger_is_told_and_becomes_one_of_its_own(
    checkouts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, one, other = checkouts
    shutil.copyfile(one / layout.LEDGER, other / layout.LEDGER)
    rollback()
    monkeypatch.chdir(other)
    with pytest.raises(PromotionError, match=r"a copy of another checkout's(.|\n)*ledger --seal"):
        truth.require_whole()
    assert truth.seal("ada", "a second checkout")
    assert not truth.seal("ada", "again")
    for folder in (one, other):
        monkeypatch.chdir(folder)
        truth.require_whole()


def test_a_store_that_can_not_be_read_is_no_missing_tag(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    assert registry.model_tag("any") == ""
    with monkeypatch.context() as patched:

        def down(_self: object, _name: str) -> None:
            raise MlflowException("the database is locked")

        patched.setattr(MlflowClient, "get_registered_model", down)
        with pytest.raises(TrackingError, match="is locked"):
            registry.model_tag("any")


def test_the_same_promotion_finishes_it(three: Any) -> None:
    *_, third, params = three
    promote(third, params, force=True, operator="ada", reason="try it")
    assert champion() == third
    assert examined()[0] == "ok"


@pytest.mark.parametrize(
    ("event", "outcome", "words"),
    [
        ("promote", "promoted", "`lerenet promote 2` finishes it"),
        ("promote", "forced", "`lerenet promote 2 --force --reason WHY` finishes it"),
        ("renew", "renewed", "`lerenet renew 1` finishes it"),
        ("rollback", "rollback", "`lerenet rollback` finishes it"),
    ],
)
def test_the_remedy_is_the_command_that_was_interrupted(event: str, outcome: str, words: str) -> None:
    change = {"event": event, "outcome": outcome, "previous": "1", "version": "2", "time": "now"}
    assert words in truth.shown(change)[1]


def lines() -> list[bytes]:
    return layout.LEDGER.read_bytes().splitlines(keepends=True)


CHANGES = {
    "an edit": lambda rows: [rows[0].replace(b"promote", b"decided", 1), *rows[1:]],
    "a deletion": lambda rows: [rows[0], *rows[2:]],
    "a line of a number": lambda rows: [rows[0], b"5\n", *rows[1:]],
    "a number at the end": lambda rows: [*rows, b"5\n"],
    "the end cut off": lambda rows: rows[:-1],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_ledger_that_was_changed_is_refused_until_it_is_sealed(project: Path, change: Any) -> None:
    first, params = offered(project, 0.4)
    promote(first, params)
    second, _ = offered(project, 0.6)
    promote(second, params)
    rollback()
    layout.LEDGER.write_bytes(b"".join(change(lines())))
    with pytest.raises(PromotionError, match="ledger --seal"):
        truth.require_whole()
    assert examined()[0] == "problem"
    with pytest.raises(PromotionError, match="ledger --seal"):
        promote(second, params)
    with pytest.raises(PromotionError, match="reason"):
        truth.seal("ada", "")
    truth.seal("ada", "looked at it")
    truth.require_whole()
    assert ledger.read()[-1]["event"] == "seal"


def test_a_torn_line_after_an_inner_brace_is_passed_over(project: Path) -> None:
    ledger.append({"event": "decide", "version": "1"})
    with layout.LEDGER.open("a") as handle:
        handle.write('{"event": "decide", "verdict": {"a": 1}')
    assert len(ledger.read()) == 1
    ledger.append({"event": "decide", "version": "2"})
    assert [entry["version"] for entry in ledger.read()] == ["1", "2"]


def test_a_torn_line_stops_no_later_promotion(project: Path) -> None:
    first, params = offered(project, 0.4)
    promote(first, params)
    with layout.LEDGER.open("a") as handle:
        handle.write('{"event": "decide", "verd')
    truth.require_whole()
    second, _ = offered(project, 0.6)
    assert promote(second, params).outcome == "promoted"
    assert [entry["version"] for entry in ledger.read()] == [first, second]
    truth.require_whole()


def test_lines_of_before_there_was_a_chain_are_read_and_covered_by_the_next(project: Path) -> None:
    layout.LEDGER.write_text('{"event": "decide", "version": "1"}\n{"event": "decide", "version": "2"}\n')
    ledger.append({"event": "decide", "version": "3"})
    assert len(ledger.read()) == 3
    layout.LEDGER.write_bytes(b"".join(lines()[1:]))
    with pytest.raises(PromotionError, match="before line 2"):
        ledger.read()


# -- the champion's files and runs ----------------------------------------------------------------


def test_a_champion_that_was_deleted_by_hand_is_said(project: Path) -> None:
    number, params = offered(project, 0.5)
    promote(number, params)
    client = MlflowClient()
    client.delete_registered_model_alias("lerenet", "champion")
    state, found, remedy = examined()
    assert (state, "its alias was removed" in found) == ("problem", True)
    assert f"lerenet promote {number} --force" in remedy
    with pytest.raises(PromotionError, match="the ledger says"):
        promote(number, params)
    client.delete_model_version("lerenet", number)
    assert "the version was deleted" in examined()[1]


def test_a_run_in_the_bin_is_said(project: Path) -> None:
    number, params = offered(project, 0.5)
    promote(number, params)
    version = registry.by_number(number)
    MlflowClient().delete_run(version.run_id)
    state, found, _ = examined()
    assert state == "warning"
    assert "registration" in found
    link = next(link for link in trace(version) if link.what == "registration run")
    assert link.state == "differs"
    assert "bin" in link.note


@pytest.mark.parametrize("how", ["missing", "changed"])
def test_a_file_that_is_missing_and_one_that_changed_are_two_messages(project: Path, how: str) -> None:
    number, params = offered(project, 0.5)
    promote(number, params)
    weights = registry.resolve(number) / layout.WEIGHTS
    weights.unlink() if how == "missing" else weights.write_bytes(b"else")
    with pytest.raises(TrackingError, match=f"{'is missing' if how == 'missing' else 'is not the file'}"):
        copies.verified(registry.by_number(number))
    assert examined()[0] == "problem"


def test_a_locked_store_is_said_and_no_force_promotes_without_a_comparison(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, params = offered(project, 0.5)
    promote(number, params)
    other, _ = offered(project, 0.4)
    with sqlite3.connect("mlflow.db") as holder:
        holder.execute("BEGIN EXCLUSIVE")

        def resolve(_model: str) -> Path:
            raise TrackingError("mlflow.db is locked", "wait")

        monkeypatch.setattr("lerenet.registry.offline.WAIT", 0.1)
        assert "locked" in examined()[1]
    holder.close()
    monkeypatch.setattr(registry, "resolve", resolve)
    with pytest.raises(TrackingError, match="locked"):
        promote(other, params, force=True, operator="ada", reason="now")
    assert champion() == number


# -- where the project lies -----------------------------------------------------------------------


def test_a_project_lies_in_a_folder_whose_name_an_address_can_not_quote(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "what? a#b 100%"
    folder = begin(project / "projects" / name, project)
    monkeypatch.chdir(folder)
    number, params = offered(folder, 0.5)
    verdict = promote(number, params)
    assert verdict.outcome == "first", verdict.reasons
    assert champion() == number
    assert registry.resolve("champion").is_relative_to(folder)
    assert [path.name for path in folder.parent.iterdir()] == [name]  # nothing lands beside it
    assert examined()[0] == "ok"


def test_a_project_that_was_moved_finds_its_versions_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = begin(project / "old", project), project / "new"
    monkeypatch.chdir(old)
    number, params = offered(old, 0.5)
    promote(number, params)
    monkeypatch.chdir(project)
    old.rename(new)
    monkeypatch.chdir(new)
    assert registry.resolve("champion").is_relative_to(new)
    assert examined()[0] == "ok"
    second, _ = offered(new, 0.9)
    assert promote(second, params).outcome == "promoted"
