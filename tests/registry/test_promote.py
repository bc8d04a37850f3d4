"""Promotion and rollback end to end: whatever breaks off, a reader sees the old champion or the new one."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from lerenet import layout
from lerenet.cli import registry as cli
from lerenet.errors import PromotionError
from lerenet.params import Params
from lerenet.registry import ledger, registered, registering, served
from lerenet.registry import promote as module
from lerenet.registry import versions as registry
from lerenet.registry.candidate import collect
from lerenet.registry.promote import Rollback, promote, rollback
from tests.helpers.registry import make_project

# MLflow compares a range with a column when it writes the input example.
pytestmark = [
    pytest.mark.whole,
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
    pytest.mark.usefixtures("little_code"),
]


def offered(root: Path, **options: Any) -> tuple[str, Params]:
    params = make_project(root, **options)
    return registering.register(collect(params), params), params


def champion() -> str:
    found = registry.champion()
    return found.number if found else ""


def test_the_first_model_then_a_better_then_a_spoiled_one(project: Path) -> None:
    first, params = offered(project, quality=0.5)
    assert promote(first, params).outcome == "first"
    better, _ = offered(project, quality=0.8)
    verdict = promote(better, params, operator="ada")
    assert verdict.outcome == "promoted"
    assert champion() == better
    spoiled, _ = offered(project, quality=0.2)
    verdict = promote(spoiled, params)
    assert verdict.outcome == "rejected"
    assert verdict.gain is not None
    assert verdict.gain.high < 0
    assert champion() == better
    tags = registry.by_number(spoiled).tags
    assert tags["verdict"] == "rejected"
    assert float(tags["gain_high"]) < 0
    assert "previous_champion" not in tags
    entries = ledger.read()
    assert [entry["event"] for entry in entries] == ["promote", "promote", "decide"]
    assert (entries[1]["version"], entries[1]["previous"], entries[1]["operator"]) == (better, first, "ada")


def test_rollback_returns_to_the_predecessor_and_can_be_taken_back(project: Path) -> None:
    first, params = offered(project, quality=0.5)
    promote(first, params)
    with pytest.raises(PromotionError, match="no predecessor"):
        rollback()
    better, _ = offered(project, quality=0.8)
    promote(better, params)
    assert rollback(operator="ada", reason="false alarms") == Rollback(better, first)
    assert champion() == first
    assert promote(better, params).outcome == "promoted"
    assert champion() == better
    assert [entry["event"] for entry in ledger.read()] == ["promote", "promote", "rollback", "promote"]


def test_rollback_to_a_damaged_version_is_refused(project: Path) -> None:
    first, params = offered(project, quality=0.5)
    promote(first, params)
    better, _ = offered(project, quality=0.8)
    promote(better, params)
    (registry.resolve(first) / "weights.safetensors").write_bytes(b"rotten")
    with pytest.raises(PromotionError, match="can't be used"):
        rollback()
    assert champion() == better


def test_force_needs_a_reason_and_is_kept(project: Path) -> None:
    first, params = offered(project, quality=0.5)
    promote(first, params)
    worse, _ = offered(project, quality=0.4)
    with pytest.raises(PromotionError, match="reason"):
        promote(worse, params, operator="ada", force=True)
    assert champion() == first
    assert promote(worse, params, operator="ada", reason="audit", force=True).outcome == "forced"
    assert champion() == worse
    assert ledger.read()[-1]["operator"] == "ada"
    assert registry.by_number(worse).tags["previous_champion"] == first


def test_the_champion_again_changes_nothing(project: Path) -> None:
    first, params = offered(project)
    promote(first, params)
    assert promote(first, params).outcome == "promoted"
    assert len(ledger.read()) == 1


class Crash(BaseException):
    """The process dies here."""


def crashing(work: Callable[..., Any], after: bool) -> Callable[..., Any]:
    def run(*args: Any, **named: Any) -> Any:
        if after:
            work(*args, **named)
        raise Crash

    return run


STEPS = [
    (registry, "set_tags"),
    (ledger, "append"),
    (registry, "set_model_tag"),
    (registry, "describe"),
    (registry, "set_champion"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("place", "name"), STEPS, ids=[name for _, name in STEPS])
def test_a_crash_at_any_step_shows_nothing_and_a_repeat_finishes(
    project: Path, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, after: bool
) -> None:
    first, params = offered(project, quality=0.5)
    promote(first, params)
    better, _ = offered(project, quality=0.8)
    with monkeypatch.context() as patched:
        patched.setattr(place, name, crashing(getattr(place, name), after))
        with pytest.raises(Crash):
            promote(better, params)
    moved = (name, after) == ("set_champion", True)
    assert champion() == (better if moved else first)
    assert registry.resolve("champion").exists()
    promote(better, params)
    assert champion() == better
    assert [entry["version"] for entry in ledger.read()] == [first, better]
    assert registry.by_number(better).tags["previous_champion"] == first


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("place", "name"), [(ledger, "append"), (registry, "set_champion")])
def test_a_crash_in_a_rollback_is_finished_by_the_next(
    project: Path, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, after: bool
) -> None:
    first, params = offered(project, quality=0.5)
    promote(first, params)
    better, _ = offered(project, quality=0.8)
    promote(better, params)
    with monkeypatch.context() as patched:
        patched.setattr(place, name, crashing(getattr(place, name), after))
        with pytest.raises(Crash):
            rollback()
    assert champion() == (first if (name, after) == ("set_champion", True) else better)
    rollback()
    assert champion() == first
    assert [entry["event"] for entry in ledger.read()] == ["promote", "promote", "rollback"]


def test_a_second_step_back_is_asked_for_by_name(project: Path) -> None:
    """Two people who roll back in one incident go back once; who names the champion to leave goes on."""
    numbers = []
    for quality in (0.4, 0.6, 0.8):
        number, params = offered(project, quality=quality)
        promote(number, params)
        numbers.append(number)
    first, second, third = numbers
    assert rollback() == Rollback(third, second)
    assert rollback() == Rollback(third, second, again=True)
    assert rollback(leave=third) == Rollback(third, second, again=True)
    assert champion() == second
    with pytest.raises(PromotionError, match=f"version {first} is not the champion"):
        rollback(leave=first)
    assert rollback(leave=second) == Rollback(second, first)
    assert rollback(leave=second) == Rollback(second, first, again=True)
    assert champion() == first
    assert len(ledger.read()) == 5


def test_a_repeated_rollback_goes_back_once_though_a_promotion_broke_off_between(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for quality in (0.4, 0.6, 0.8):
        number, params = offered(project, quality=quality)
        promote(number, params)
    done = rollback()
    best, _ = offered(project, quality=0.9)
    with monkeypatch.context() as patched:
        patched.setattr(registry, "set_champion", crashing(registry.set_champion, after=False))
        with pytest.raises(Crash):
            promote(best, params)
    assert rollback() == Rollback(best, done.after)  # the promotion is taken back
    assert rollback() == Rollback(best, done.after, again=True)
    assert champion() == done.after


def test_a_rollback_never_returns_to_the_version_that_was_left(project: Path) -> None:
    first, params = offered(project, quality=0.5)
    promote(first, params)
    better, _ = offered(project, quality=0.8)
    promote(better, params)
    promote(first, params, force=True, operator="ada", reason="audit")  # each is the other's predecessor now
    assert rollback() == Rollback(first, better)
    with pytest.raises(PromotionError, match="just left"):
        rollback(leave=better)
    assert champion() == better


def test_a_ledger_of_another_store_settles_nothing(project: Path) -> None:
    """Numbers begin anew in another store: what the ledger says of them is of other versions."""
    shutil.copyfile(project / "mlflow.db", project / "other.db")
    for quality in (0.5, 0.8, 0.2):
        number, params = offered(project, quality=quality)
        promote(number, params)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/other.db")
        number, _ = offered(project, quality=0.6)
        assert not module.settled(registry.by_number(number))


@pytest.mark.parametrize("changed", [{"digest": "f" * 32}, {"code": "d" * 32}])
def test_other_episodes_or_code_score_the_champion_again_once(
    project: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str]
) -> None:
    first, params = offered(project, quality=0.5)
    promote(first, params)
    better, _ = offered(project, quality=0.8, **changed)
    calls = []

    def score_version(
        folder: Path, episodes: Path, catalog: Path, data: Path, params: Params
    ) -> pd.DataFrame:
        calls.append(folder)
        assert (folder / "folds" / "fold2" / "weights.safetensors").exists()
        return pd.read_parquet(folder / "counts.parquet")

    monkeypatch.setattr("lerenet.evaluation.protocol.score_version", score_version)
    assert promote(better, params).outcome == "promoted"
    rollback()
    assert promote(better, params).outcome == "promoted"
    assert len(calls) == 1


def test_a_model_that_is_served_otherwise_than_it_was_scored_is_rejected(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Served masks cut at another probability than those of the trained network."""
    code = served.CODE.read_text()
    other = project / "pyfunc_model.py"
    other.write_text(code.replace("marked, _ =", "marked =").replace("[query])[0]", "[query])[0][1] > 0.622"))
    assert other.read_text() != code
    monkeypatch.setattr(served, "CODE", other)
    first, params = offered(project)
    verdict = promote(first, params)
    assert verdict.outcome == "rejected"
    assert "masks" in verdict.reasons[0]
    assert champion() == ""


def test_a_model_that_mlflow_cannot_load_is_rejected_and_can_be_forced(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, params = offered(project)
    from mlflow.exceptions import MlflowException

    def broken(_: str) -> None:
        raise MlflowException("no module named lerenet.gone")

    monkeypatch.setattr(served.pyfunc(), "load_model", broken)
    assert promote(first, params).outcome == "rejected"
    assert promote(first, params, force=True, operator="ada", reason="audit").outcome == "forced"
    assert champion() == first


def test_two_promotions_at_once_take_turns(project: Path) -> None:
    first, params = offered(project, quality=0.5)
    better, _ = offered(project, quality=0.8)
    promote(first, params)
    threads = [threading.Thread(target=promote, args=(better, params)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert champion() == better
    assert len(ledger.read()) == 2


def test_the_ledger_passes_over_a_torn_line_and_refuses_an_edited_one(project: Path) -> None:
    ledger.append({"event": "promote", "version": "1"})
    with layout.LEDGER.open("a") as handle:
        handle.write('{"event": "pro')
    ledger.append({"event": "rollback", "version": "0"})
    assert [entry["version"] for entry in ledger.read()] == ["1", "0"]
    with layout.LEDGER.open("a") as handle:
        handle.write("{edited by hand}\n")
    with pytest.raises(PromotionError, match=r"ledger\.jsonl:4"):
        ledger.read()


def test_the_commands(project: Path) -> None:
    app, runner = typer.Typer(), CliRunner()
    for command in cli.COMMANDS:
        app.command(command.__name__)(command)
    assert "nothing was decided" in runner.invoke(app, ["ledger"]).output
    assert "no version" in runner.invoke(app, ["models"]).output
    first, _ = offered(project, quality=0.5)
    done = runner.invoke(app, ["promote", first, "--operator", "ada"])
    assert done.exit_code == 0, done.output
    assert "first" in done.output
    worse, _ = offered(project, quality=0.2)
    assert runner.invoke(app, ["promote", worse]).exit_code == 1
    assert runner.invoke(app, ["promote", worse, "--force", "--reason", "audit"]).exit_code == 0
    assert "version 2 -> version 1" in runner.invoke(app, ["rollback", "--reason", "over"]).output
    assert "champion" in runner.invoke(app, ["models"]).output
    shown = runner.invoke(app, ["ledger"]).output
    for word in ("first", "rejected", "forced", "rollback"):
        assert word in shown
    assert json.loads(layout.LEDGER.read_text().splitlines()[0])["operator"] == "ada"
    told = json.loads(runner.invoke(app, ["ledger", "--json"]).output)
    assert [entry["outcome"] for entry in told] == ["first", "rejected", "forced", "rollback"]
    listed = json.loads(runner.invoke(app, ["models", "--json"]).output)
    assert [(item["number"], item["aliases"]) for item in listed] == [("2", []), ("1", ["champion"])]
    traced = runner.invoke(app, ["lineage", "--json"])
    assert json.loads(traced.output)["version"] == "1"
    assert max(map(len, shown.splitlines())) > 80  # nothing is cut in a pipe


def test_a_decision_is_settled_only_once_its_last_step_is_done(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next retraining would take an interrupted promotion for done and leave the old champion."""
    first, params = offered(project, quality=0.5)
    assert not module.settled(registry.by_number(first))
    promote(first, params)
    assert module.settled(registry.by_number(first))
    better, _ = offered(project, quality=0.8)

    def down(*_words: object) -> None:
        raise OSError("the server is down")

    with pytest.raises(OSError, match="down"):
        promote(better, params, before_alias=down)
    assert registry.by_number(better).tags["verdict"] == "promoted"
    assert champion() == first
    assert not module.settled(registry.by_number(better))
    promote(better, params)
    assert module.settled(registry.by_number(better))
    assert champion() == better
    (project / "ledger.jsonl").unlink()
    assert module.settled(registry.by_number(better)), "the alias is the last step"


def test_a_rejection_after_an_interrupted_force_is_settled(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every night judges the same version again."""
    first, params = offered(project, quality=0.5)
    promote(first, params)
    worse, _ = offered(project, quality=0.2)
    assert promote(worse, params).outcome == "rejected"
    with monkeypatch.context() as patched:
        patched.setattr(registry, "set_champion", crashing(registry.set_champion, after=False))
        with pytest.raises(Crash):
            promote(worse, params, force=True, operator="ada", reason="audit")
    assert not module.settled(registry.by_number(worse))
    assert promote(worse, params).outcome == "rejected"
    assert module.settled(registry.by_number(worse))
    assert [entry["event"] for entry in ledger.read()] == [
        "promote", "decide", "promote", "rollback", "decide"
    ]  # fmt: skip


def test_a_decision_by_another_person_is_kept(project: Path) -> None:
    first, params = offered(project, quality=0.5)
    promote(first, params)
    worse, _ = offered(project, quality=0.2)
    for operator in ("ada", "ada", "bob"):
        promote(worse, params, operator=operator)
    assert [entry["operator"] for entry in ledger.read()[1:]] == ["ada", "bob"]


def test_another_store_with_the_same_numbers_scores_its_own_champion(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts kept of a version are those of its weights, not of its number."""
    asked = []

    def score_version(folder: Path, *_: Any) -> pd.DataFrame:
        asked.append(folder)
        return pd.read_parquet(folder / "counts.parquet")

    monkeypatch.setattr("lerenet.evaluation.protocol.score_version", score_version)
    for seed in (0, 1):
        (project / "ledger.jsonl").unlink(missing_ok=True)
        shutil.copyfile(project / "mlflow.db", project / f"other{seed}.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/other{seed}.db")
        first, params = offered(project, quality=0.5, seed=seed)
        promote(first, params)
        better, _ = offered(project, quality=0.8, seed=seed, digest="f" * 32)
        assert promote(better, params).outcome == "promoted"
    assert len(asked) == 2


def test_no_champion_where_the_ledger_knows_one_is_no_first_model(project: Path) -> None:
    first, params = offered(project, quality=0.5)
    promote(first, params)
    better, _ = offered(project, quality=0.8)
    promote(better, params)
    registry.client().delete_registered_model_alias(registered.NAME, registered.CHAMPION)
    spoiled, _ = offered(project, quality=0.2)
    with pytest.raises(PromotionError, match=f"version {better} is it"):
        promote(spoiled, params)
    assert champion() == ""
    promote(better, params, force=True, operator="ada", reason="the alias was lost")
    assert champion() == better


def test_a_number_with_a_zero_before_it_is_the_same_version(project: Path) -> None:
    first, params = offered(project, quality=0.5)
    promote(first, params)
    assert "champion already" in promote(f"0{first}", params).reasons[0]
    assert len(ledger.read()) == 1
