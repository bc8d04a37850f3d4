"""A version that carries no code is made anew: the same files, its own code, the alias last."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lerenet.errors import PromotionError
from lerenet.params import Params
from lerenet.registry import copies, ledger, served, versions
from lerenet.registry.candidate import collect
from lerenet.registry.promote import promote, rollback
from lerenet.registry.registering import register
from lerenet.registry.renew import renew
from tests.helpers.registry import make_project

# MLflow compares a range with a column when it writes the input example.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
    pytest.mark.usefixtures("little_code"),
]


def champion_without_code(project: Path) -> tuple[str, Params]:
    params = make_project(project)
    number = register(collect(params), params)
    promote(number, params)
    shutil.rmtree(copies.local(versions.by_number(number)) / "code")
    without = {name: digest for name, digest in copies_of(number).items() if not name.startswith("code/")}
    versions.set_tags(number, {"sha256": json.dumps(without)})
    return number, params


def copies_of(number: str) -> dict[str, str]:
    version = versions.by_number(number)
    return {name: digest for name, digest, _ in copies.check_files(version, copies.local(version))}


def test_the_champion_is_renewed_once_with_the_same_files_and_can_be_rolled_back(project: Path) -> None:
    old, params = champion_without_code(project)
    new = renew("champion", params, operator="me", reason="a new release")
    assert renew(old, params) == new
    version = versions.champion()
    assert version is not None
    assert (version.number, version.tags["renewed_from"]) == (new, old)
    assert (copies.local(version) / "code").is_dir()
    package = {name: digest for name, digest in copies_of(old).items() if name.startswith("artifacts/")}
    assert package.items() <= copies_of(new).items()
    assert version.tags["miou"] == versions.by_number(old).tags["miou"]
    last = ledger.last_change()
    assert (last["event"], last["version"], last["previous"], last["operator"]) == ("renew", new, old, "me")
    with pytest.raises(PromotionError, match="carries its own code already"):
        renew(new, params)
    with pytest.raises(PromotionError, match="no predecessor"):
        rollback()


def test_a_version_that_is_not_the_champion_is_renewed_and_the_alias_stays(project: Path) -> None:
    old, params = champion_without_code(project)
    better = register(collect(make_project(project, quality=0.9)), params)
    promote(better, params, force=True, operator="me", reason="better")
    renew(old, params)
    current = versions.champion()
    assert current is not None
    assert current.number == better


def test_what_answers_otherwise_leaves_the_champion(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, params = champion_without_code(project)
    monkeypatch.setattr(served, "agrees", lambda model, loaded: False)
    with pytest.raises(PromotionError, match="does not give its masks"):
        renew("champion", params)
    current = versions.champion()
    assert current is not None
    assert current.number == old


def test_a_rollback_that_was_interrupted_is_finished_before_the_champion_is_renewed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, params = champion_without_code(project)
    better = register(collect(make_project(project, quality=0.9)), params)
    promote(better, params, force=True, operator="me", reason="better")

    def crash(_number: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(versions, "set_champion", crash)
        rollback()
    new = renew("champion", params)
    current = versions.champion()
    assert current is not None
    assert (current.number, current.tags["renewed_from"]) == (new, old)
    assert [entry["event"] for entry in ledger.read()] == ["promote", "promote", "rollback", "renew"]


def test_a_renewal_that_was_interrupted_is_finished_by_the_same_command(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, params = champion_without_code(project)

    def crash(_number: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(versions, "set_champion", crash)
        renew("champion", params)
    new = renew(old, params)
    current = versions.champion()
    assert current is not None
    assert current.number == new
    assert [entry["event"] for entry in ledger.read()] == ["promote", "renew"]
