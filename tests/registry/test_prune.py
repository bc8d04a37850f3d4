"""Pruning: what is needed stays and verifies, the rest is gone for good; equal files lie there once."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from lerenet.errors import TrackingError
from lerenet.params import Params
from lerenet.registry import copies, links, prune, registering, truth
from lerenet.registry import versions as registry
from lerenet.registry.backup import backup
from lerenet.registry.candidate import collect
from lerenet.registry.lineage import trace
from lerenet.registry.promote import promote, rollback
from lerenet.registry.registered import Version
from lerenet.registry.restore import restore
from lerenet.tracking import store
from lerenet.tracking.moved import ARTIFACTS
from tests.helpers.registry import answer, begin, make_project

EXPERIMENT = Params().experiment

pytestmark = [
    pytest.mark.whole,
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
    pytest.mark.usefixtures("little_code"),
]


def versions(project: Path, *qualities: float) -> list[str]:
    """Registered and judged, one after another; a better quality is promoted."""
    numbers = []
    for quality in qualities:
        params = make_project(project, quality=quality)
        numbers.append(registering.register(collect(params), params))
        promote(numbers[-1], params)
    return numbers


def version(number: int, alias: str = "", **tags: str) -> Version:
    return Version(str(number), {"verdict": "rejected", **tags}, (alias,) if alias else (), "", "")


def test_champion_predecessor_aliases_and_the_undecided_stay() -> None:
    champion = version(5, "champion", previous_champion="3")
    others = version(9), version(8), version(7, verdict="candidate"), version(6)
    all_ = [*others, champion, version(4), version(3), version(2, "pinned"), version(1)]
    assert prune.kept_versions(all_, 2) == {"9", "8", "7", "5", "3", "2"}
    assert prune.kept_versions(all_, 0) == {"7", "5", "3", "2"}
    assert prune.kept_versions([], 5) == set()


def test_what_goes_is_gone_for_good_and_what_stays_verifies(project: Path) -> None:
    numbers = versions(project, 0.4, 0.55, 0.3, 0.7, 0.2, 0.1)
    assert registry.find("champion").number == numbers[3]
    old = prune.plan(EXPERIMENT, newest=1, days=30)
    assert {one.number for one in old.versions} == {numbers[0], numbers[2], numbers[4]}
    assert any(folder.is_dir() for folder in (*old.files, *old.artifacts))  # a plan alone
    done: list[int] = []
    prune.remove(old, done.append)
    assert sum(done) == 3 * 3  # version, files, run
    assert [one.number for one in registry.versions()] == [numbers[5], numbers[3], numbers[1]]
    assert not any(folder.exists() for folder in (*old.files, *old.artifacts))
    for left in registry.versions():
        copies.verified(left)
        assert answer(copies.local(left)) is not None
        assert not [link for link in trace(left) if link.state == "differs"]
    assert rollback(operator="test", reason="still there").after == numbers[1]
    assert prune.plan(EXPERIMENT, newest=1, days=30).versions == ()


def test_killed_between_version_and_files_it_goes_on(project: Path) -> None:
    versions(project, 0.4, 0.55, 0.7)
    old = prune.plan(EXPERIMENT, newest=1, days=30)
    (gone,) = (one.number for one in old.versions)

    def killed(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune.remove(old, killed)
    assert gone not in {one.number for one in registry.versions()}
    again = prune.plan(EXPERIMENT, newest=1, days=0)  # what no version names goes by age
    assert set(old.models) <= set(again.models)
    prune.remove(again)
    assert not any(folder.exists() for folder in (*old.files, *old.artifacts))


def test_old_runs_go_but_not_what_a_version_or_an_output_names(project: Path) -> None:
    versions(project, 0.5)
    client = registry.client()
    experiment = client.search_experiments()[0].experiment_id
    old = 1000 * (time.time() - 40 * prune.DAY)
    ids = {}
    for name in ("old", "parent", "named", "young", "running"):
        start = int(old if name != "young" else 1000 * time.time())
        tags = {prune.PARENT: ids["parent"]} if name == "named" else {}
        ids[name] = client.create_run(experiment, start_time=start, tags=tags).info.run_id
        if name != "running":
            client.set_terminated(ids[name], end_time=start)
    (project / "artifacts/train/x").mkdir(parents=True)
    (project / "artifacts/train/x/run.json").write_text(f'{{"mlflow_run_id": "{ids["named"]}"}}')
    theirs = client.create_run(client.create_experiment("someone's"), start_time=int(old)).info.run_id
    client.set_terminated(theirs, end_time=int(old))
    young = client.create_run(experiment).info.run_id
    client.delete_run(young)  # in the bin, but young
    assert prune.plan(EXPERIMENT, newest=5, days=30).runs == (ids["old"],)


def test_a_copy_of_a_project_removes_nothing_of_the_original(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = begin(project / "original", project)
    monkeypatch.chdir(original)
    versions(original, 0.4, 0.55, 0.7)
    shutil.copytree(original, project / "copy")
    monkeypatch.chdir(project / "copy")
    with pytest.raises(TrackingError, match="not in this project's mlartifacts"):
        prune.plan(EXPERIMENT, newest=0, days=30)


def test_where_other_checkouts_use_the_registry_nothing_is_pruned(project: Path) -> None:
    versions(project, 0.4)
    registry.set_model_tag(f"{truth.LEDGER}another", "0" * 64)
    with pytest.raises(TrackingError, match="2 checkouts"):
        prune.plan(EXPERIMENT, newest=0, days=30)


def test_a_server_elsewhere_is_refused_before_anything_goes(
    project: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions(project, 0.4, 0.5, 0.6)
    old = prune.plan(EXPERIMENT, newest=0, days=30)
    shutil.copyfile(mlflow_template, project / "other.db")
    monkeypatch.setenv(store.VARIABLE, "http://127.0.0.1:9")
    monkeypatch.setenv(store.BACKEND, f"sqlite:///{project / 'other.db'}")
    with pytest.raises(TrackingError, match="not the store of these runs"):
        prune.remove(old)
    monkeypatch.delenv(store.VARIABLE)
    assert len(registry.versions()) == 3


@pytest.mark.slow
def test_thirty_versions_become_five_and_the_champion_answers_as_before_where_it_is_restored(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = begin(project / "original", project)
    monkeypatch.chdir(original)
    versions(original, *(0.3 + 0.01 * (7 * place % 30) for place in range(30)))
    champion = registry.find("champion")
    mask = answer(copies.local(champion))
    old = prune.plan(EXPERIMENT, newest=3, days=30)
    prune.remove(old)
    left = registry.versions()
    assert len(left) in (4, 5)  # the newest three, the champion and its predecessor
    assert champion.number in {one.number for one in left}
    for one in left:
        assert answer(copies.local(one)) is not None
        assert not [link for link in trace(one) if link.state == "differs"]
    backup(project / "saved.tar")
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    restore(project / "saved.tar")
    again = registry.find("champion")
    assert again.number == champion.number
    assert copies.verified(again).is_relative_to(elsewhere)
    assert answer(copies.local(again)) == mask is not None


def test_equal_large_files_lie_there_once_and_only_what_goes_alone_frees_space(tmp_path: Path) -> None:
    weights = os.urandom(links.LEAST)
    first, second = (tmp_path / ARTIFACTS / "models" / name for name in ("one", "two"))
    for folder in (first, second):
        (folder / "folds").mkdir(parents=True)
        (folder / "weights").write_bytes(weights)
        (folder / "folds" / "weights").write_bytes(weights)
        (folder / "card").write_text("small")
    (second / "own").write_bytes(weights[::-1])
    assert links.share(second) == 2 * links.LEAST
    assert links.share(second) == 0
    assert (second / "weights").samefile(first / "folds" / "weights") or (second / "weights").samefile(
        first / "weights"
    )
    assert (second / "own").read_bytes() == weights[::-1]
    assert not (second / "card").samefile(first / "card")
    assert [path.name for path in (tmp_path / ARTIFACTS).iterdir()] == ["models"]
    assert prune.freed([second]) == links.LEAST + len("small")
    assert links.share(tmp_path / "elsewhere") == 0
