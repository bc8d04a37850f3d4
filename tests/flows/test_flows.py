"""The flows: DVC's graph mirrored, nothing left behind, nothing started from inside DVC."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml
from filelock import FileLock

from flows import data, dvc, graph, groups, mirror
from flows import retrain as retraining
from flows.notices import Shifted
from flows.turns import one_at_a_time
from lerenet.data.catalog import COLUMNS
from lerenet.errors import DataError
from lerenet.params import Params
from lerenet.registry.gate import Verdict
from lerenet.registry.registered import Version
from lerenet.tracking.machine import user
from tests.helpers import PROJECT
from tests.helpers.prefect_server import (
    PIPELINE,
    call_dvc,
    fresh,
    moved_into,
    order,
    pipeline,
    prefect_server,
)
from tests.helpers.receiver import Receiver, receiver

__all__ = ["fresh", "pipeline"]  # fixtures

# A task run outside a flow has no flow run to send its log to.
pytestmark = [
    pytest.mark.whole,
    pytest.mark.filterwarnings("ignore:Logger 'prefect.task_runs' attempted:UserWarning"),
]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """One Prefect server for all tests, which writes only what the flows ask for: they need not wait for their turn."""
    with prefect_server("EVENT_PERSISTER", "TASK_RUN_RECORDER", "TRIGGERS") as address:
        yield address


@pytest.fixture(scope="module")
def whole(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(fresh, tmp_path_factory.mktemp("done"), dirs_exist_ok=True)
    call_dvc("repro", folder=folder)
    return folder


@pytest.fixture
def done(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`pipeline` after all of its stages."""
    return moved_into(whole, tmp_path, monkeypatch)


# -- the data ----------------------------------------------------------------------------------

READER = """
stages:
  catalog:
    cmd: ls data > listed.txt
    deps: [data]
    outs: [listed.txt]
"""


@pytest.fixture(scope="module")
def sent(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(fresh, tmp_path_factory.mktemp("sent"), dirs_exist_ok=True)
    (folder / "dvc.yaml").write_text(READER)
    (folder / ".dvc" / "config").write_text("[core]\nremote = store\n['remote \"store\"']\nurl = ../store\n")
    (folder / "data").mkdir()
    for names in ("abc", "ab"):
        for name in "abc":
            (folder / "data" / name).unlink(missing_ok=True)
        for name in names:
            (folder / "data" / name).write_text(name)
        call_dvc("add", "data", folder=folder)
        call_dvc("push", folder=folder)
        shutil.copyfile(folder / "data.dvc", folder / f"{names}.dvc.kept")
    call_dvc("repro", folder=folder)
    return folder


@pytest.fixture
def stored(sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose data are in a remote and were read by a stage."""
    return moved_into(sent, tmp_path, monkeypatch)


def test_images_that_were_removed_here_do_not_come_back(stored: Path) -> None:
    assert "those of data.dvc" in data.pull_data()
    (stored / "data" / "a").unlink()
    assert "used as they are" in data.pull_data()
    assert [path.name for path in (stored / "data").iterdir()] == ["b"]


def test_data_that_git_brought_are_fetched_and_a_killed_fetch_is_finished(stored: Path) -> None:
    shutil.copyfile(stored / "abc.dvc.kept", stored / "data.dvc")  # as `git pull` would
    shutil.rmtree(stored / ".dvc" / "cache")  # what another machine pushed is not here
    data.pull_data()
    assert sorted(path.name for path in (stored / "data").iterdir()) == ["a", "b", "c"]
    assert not data.PULLING.exists()
    (stored / "data" / "b").unlink()
    data.PULLING.touch()  # a fetch killed at work
    data.pull_data()
    assert sorted(path.name for path in (stored / "data").iterdir()) == ["a", "b", "c"]


def test_no_log_in_of_a_remote_is_told() -> None:
    line = "store ssh://user:s3cret@host/path (default)\n"
    assert dvc.without_log_in(line) == "store ssh://host/path (default)\n"
    assert dvc.without_log_in("plain: a@b\n") == "plain: a@b\n"


# -- the graph ----------------------------------------------------------------------------------

DOT = 'strict digraph {\n"data.dvc";\n"a";\n"b@x-1";\n"data.dvc" -> "a";\n"a" -> "b@x-1";\n}\n'


def test_the_dot_of_dvc_is_read() -> None:
    assert graph.parse_dot(DOT) == {
        "data.dvc": frozenset(),
        "a": frozenset({"data.dvc"}),
        "b@x-1": frozenset({"a"}),
    }


def test_a_group_is_its_stages_and_what_they_need() -> None:
    names = ["catalog", "folds", "pretrain@fold0-x", "features@fold0-x", "train@fold0-x-l-1-0", "report"]
    chain = {name: frozenset(names[max(0, i - 1) : i]) for i, name in enumerate(names)}
    assert list(graph.select(chain, ["pretraining"])) == names[:3]
    assert list(graph.select(chain, ["training"])) == names[:5]
    assert graph.select(chain, []) == chain
    assert set(graph.select({**chain, "other": frozenset()}, ["folds"])) == {"catalog", "folds"}


def test_a_fold_is_its_stages_and_what_they_need() -> None:
    known = {
        "catalog": frozenset[str](),
        **{f"train@fold{n}-x-l-1-0": frozenset({"catalog"}) for n in range(3)},
        "ship": frozenset(f"train@fold{n}-x-l-1-0" for n in range(3)),
        "other": frozenset(),
    }
    assert list(graph.select(known, folds=["fold1"])) == ["catalog", "train@fold1-x-l-1-0"]
    assert list(graph.select(known, ["folds"], ["fold1"])) == []
    assert graph.below(known, ["train@fold1-x-l-1-0"]) == ["train@fold1-x-l-1-0", "ship"]
    assert graph.below(known, ["catalog"]) == [*known][:-1]
    assert graph.below(known, []) == []


def test_every_stage_of_the_project_is_in_one_group() -> None:
    known = [name for group in graph.GROUPS.values() for name in group]
    assert sorted(known) == sorted(yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"])


def test_a_flow_inside_a_dvc_stage_refuses_to_start(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train@fold0")
    with pytest.raises(RuntimeError, match="train@fold0"):
        mirror.mirror()
    with pytest.raises(RuntimeError, match="train@fold0"):
        retraining.retrain.fn()
    assert not (pipeline / "order.txt").exists()


# -- child processes ----------------------------------------------------------------------------


def test_stop_ends_the_whole_group(pipeline: Path) -> None:
    (pipeline / "dvc.yaml").write_text("stages:\n  train:\n    cmd: sleep 321.5 & echo $! > pid; wait\n")
    errors: list[BaseException] = []

    def work() -> None:
        try:
            dvc.run_dvc("repro", "--single-item", "train")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    pid = wait_for_pid(pipeline / "pid")
    dvc.CHILDREN.stop()
    thread.join(20)
    assert isinstance(errors[0], dvc.Cancelled)
    assert gone(pid)
    with pytest.raises(dvc.Cancelled):
        dvc.run_dvc("version")


def gone(pid: int) -> bool:
    """Whether a process ended; one that nobody has waited for yet counts as ended."""
    for _ in range(100):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def wait_for_pid(path: Path) -> int:
    for _ in range(600):
        if path.exists() and path.read_text().strip():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


FLOW = """
from prefect import flow
from flows.mirror import mirror
@flow
def outer() -> None:
    mirror()
if __name__ == "__main__":
    outer()
"""


def test_a_terminated_flow_leaves_no_child(pipeline: Path, server: str) -> None:
    (pipeline / "dvc.yaml").write_text("stages:\n  train:\n    cmd: sleep 322.5 & echo $! > pid; wait\n")
    (pipeline / "outer.py").write_text(FLOW)
    environment = {**os.environ, "PREFECT_API_URL": server, "PYTHONPATH": str(PROJECT)}
    child = subprocess.Popen([sys.executable, "outer.py"], env=environment)
    pid = wait_for_pid(pipeline / "pid")
    family = psutil.Process(child.pid).children(recursive=True)
    child.send_signal(signal.SIGTERM)
    child.wait(40)
    assert gone(pid)
    assert all(gone(process.pid) for process in family)


# -- the mirror ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("server")
def test_the_mirror_runs_in_order_and_then_skips_everything(pipeline: Path) -> None:
    done = mirror.mirror(jobs=2)
    assert set(done) == {"catalog", "folds", "train@fold0-lite_0", "train@fold1-lite_0", "report"}
    ran = order(pipeline)
    assert ran[:2] == ["catalog", "folds"]
    assert set(ran[2:4]) == {"train-fold0-lite_0", "train-fold1-lite_0"}
    assert ran[4:] == ["report"]
    mirror.mirror(["folds"])
    assert order(pipeline) == ran


@pytest.mark.usefixtures("server")
def test_force_runs_the_groups_own_stages_again(done: Path) -> None:
    ran = order(done)
    mirror.mirror(["folds"], force=True)
    assert order(done) == [*ran, "catalog", "folds"]


@pytest.mark.usefixtures("server")
def test_a_failure_starts_nothing_more_and_names_the_stage(pipeline: Path) -> None:
    (pipeline / "dvc.yaml").write_text(PIPELINE.replace("cat catalog.txt > folds.txt", "false"))
    with pytest.raises(dvc.StageError, match=r"folds(.|\n)*not started: .*report"):
        mirror.mirror()
    assert order(pipeline) == ["catalog", "folds"]


def test_a_lock_of_dvc_is_told_from_a_failure(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, kind in (("ERROR: Unable to acquire lock.", dvc.StageLocked), ("boom", dvc.StageError)):
        Path("dvc.py").write_text(f"import sys; print({text!r}); sys.exit(1)")  # found before the real one
        monkeypatch.setenv("PYTHONPATH", str(pipeline))
        with pytest.raises(dvc.StageError) as caught:
            dvc.run_dvc("repro")
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    "torn", ["", "schema: '2.0", "schema: '2.0'\n"]
)  # against the schema, no YAML, read by DVC
def test_a_lock_file_that_a_kill_tore_is_written_anew_and_nothing_runs_again(done: Path, torn: str) -> None:
    ran, lock = order(done), Path("dvc.lock").read_text()
    Path("dvc.lock").write_text(torn)
    os.utime("dvc.lock", (0, 0))
    dvc.run_dvc("repro")
    assert order(done) == [*ran, "catalog"]  # which depends on nothing, so that no cache knows it
    assert Path("dvc.lock").read_text() == lock


def test_a_lock_file_that_another_command_is_writing_stays(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, waits = Path("dvc.lock").read_text(), list[float]()
    Path("dvc.lock").write_text(lock[:30])

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        Path("dvc.lock").write_text(lock)  # the other command ends meanwhile

    def just_written() -> float:
        return Path("dvc.lock").stat().st_mtime

    monkeypatch.setattr(dvc, "time", SimpleNamespace(time=just_written, sleep=sleep))
    assert data.is_clean()
    assert waits == [1]
    assert Path("dvc.lock").read_text() == lock


def test_a_stage_that_meets_a_lock_at_its_end_is_recorded_and_not_run_again(pipeline: Path) -> None:
    (pipeline / "dvc.yaml").write_text(
        "stages:\n  once:\n    outs: [out.txt]\n"
        "    cmd: date >> ran.txt && until [ -e held ]; do sleep 0.05; done && date > out.txt\n"
    )

    def hold() -> None:
        while not Path("ran.txt").exists():
            time.sleep(0.01)
        with FileLock(pipeline / ".dvc" / "tmp" / "lock"):
            Path("held").touch()
            time.sleep(4.5)  # DVC by itself gives up after three seconds

    thread = threading.Thread(target=hold)
    thread.start()
    dvc.run_dvc("repro")
    thread.join()
    assert len(Path("ran.txt").read_text().splitlines()) == 1


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(("error", "calls"), [(dvc.StageLocked, 3), (dvc.StageError, 1)])
def test_only_locks_are_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], calls: int
) -> None:
    seen: list[tuple[str, ...]] = []

    def run_dvc(*words: str, **_named: Any) -> str:
        seen.append(words)
        if len(seen) < 3:
            raise error("no")
        return ""

    monkeypatch.setattr(mirror, "run_dvc", run_dvc)
    hurried = mirror.run_stage.with_options(retry_delay_seconds=0)
    state = hurried("catalog", return_state=True)
    assert state.is_completed() is (error is dvc.StageLocked)
    assert seen == [("repro", "--single-item", "catalog")] * calls


def test_a_stage_on_another_machine_is_told_of_its_parent_run(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(mirror, "run_dvc", lambda *_, **named: told.append(named["variables"]))
    for parent in ("", "abc"):
        mirror.run_stage.fn("catalog", parent=parent)
    assert told == [{}, {"LERENET_PARENT_RUN": "abc"}]


def test_gpu_stages_hold_a_strict_slot_only_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    import prefect.concurrency.sync as sync

    held: list[Any] = []
    monkeypatch.setattr(sync, "concurrency", lambda *words, **named: held.append((words, named)))
    monkeypatch.setattr(mirror, "has_cuda", lambda: False)
    mirror._gpu_slot("train@x")
    monkeypatch.setattr(mirror, "has_cuda", lambda: True)
    mirror._gpu_slot("catalog")
    assert held == []
    mirror._gpu_slot("train@x")
    assert held == [(("gpu",), {"occupy": 1, "strict": True})]


# -- the retraining -----------------------------------------------------------------------------

DECIDING = ["mirror", "require_unchanged", "register", "decide", "push"]
LOOKING = ["pull_data", "nothing_changed", "mirror", "nothing_changed"]
STEPS = [*LOOKING, "report_drift", *DECIDING]


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The retraining with every step replaced by one that writes its name down."""
    monkeypatch.chdir(tmp_path)
    for variable in ("DVC_STAGE", "LERENET_NOTIFY"):
        monkeypatch.delenv(variable, raising=False)
    Path("params.yaml").write_text("{}")
    seen: list[str] = []
    answers = {
        "mirror": ["catalog"],
        "register": "7",
        "nothing_changed": False,
        "decide": Verdict("rejected", ("worse",)),
    }
    for name in sorted(set(STEPS)):

        def work(*_words: Any, name: str = name, **_named: Any) -> Any:
            seen.append(name)
            return answers.get(name)

        monkeypatch.setattr(retraining, name, work)
    monkeypatch.setattr(retraining, "retraining_run", lambda *_: nullcontext(None))
    for name in ("note", "close_left"):
        monkeypatch.setattr(retraining, name, lambda *_: None)
    return seen


@pytest.mark.usefixtures("server")
def test_the_retraining_keeps_its_order(recorded: list[str]) -> None:
    state = retraining.retrain(return_state=True)
    assert recorded == STEPS
    assert state.is_completed()
    assert state.message == "Version 7: rejected"


@pytest.mark.usefixtures("server")
def test_nothing_changed_ends_completed_unless_forced(
    recorded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "nothing_changed", lambda params: True)
    state = retraining.retrain(pull=False, return_state=True)
    assert state.is_completed()
    assert "Nothing changed" in state.message
    assert recorded == ["push"]  # what an earlier one may not have sent
    recorded.clear()
    answers = iter([False, True])  # the code changed, and what it makes did not
    monkeypatch.setattr(retraining, "nothing_changed", lambda params: next(answers))
    assert "Nothing changed" in retraining.retrain(pull=False, return_state=True).message
    assert recorded == ["mirror", "push"]  # images that were judged are not again
    recorded.clear()
    retraining.retrain(pull=False, force=True)
    assert recorded == ["mirror", "report_drift", *DECIDING]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("broken", ["mirror", "require_unchanged", "register", "decide"])
def test_a_failed_step_ends_the_retraining(
    recorded: list[str], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_words: Any, **_named: Any) -> None:
        raise dvc.StageError(broken)

    monkeypatch.setattr(retraining, broken, fail)
    assert retraining.retrain(return_state=True).is_failed()
    assert recorded == STEPS[: STEPS.index(broken)]  # `mirror` fails at its first call


@pytest.mark.usefixtures("server")
def test_some_folds_only_never_register(recorded: list[str]) -> None:
    state = retraining.retrain(folds=["fold1"], force=True, return_state=True)
    assert state.is_completed()
    assert recorded == ["pull_data", "mirror", "report_drift", "mirror"]


@pytest.mark.usefixtures("server")
def test_one_retraining_at_a_time(recorded: list[str]) -> None:
    with one_at_a_time(wait=False) as free:
        assert free
        state = retraining.retrain(return_state=True)
        assert state.is_cancelled()
        assert recorded == []
    thread = threading.Thread(target=hold_the_lock, args=(started := threading.Event(), recorded))
    thread.start()
    assert started.wait(30)
    retraining.retrain(wait=True)
    thread.join(30)
    assert recorded == ["other", *STEPS]


def hold_the_lock(started: threading.Event, recorded: list[str]) -> None:
    with one_at_a_time(wait=False):
        started.set()
        time.sleep(0.3)
        recorded.append("other")


def test_what_changed_meanwhile_is_not_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "changed_stages", lambda: ["catalog"])
    with pytest.raises(dvc.StageError, match=r"catalog(.|\n)*nothing was registered"):
        retraining.require_unchanged()
    monkeypatch.setattr(retraining, "changed_stages", lambda: [])
    retraining.require_unchanged()


@pytest.mark.usefixtures("server")
def test_dry_says_what_would_run_and_changes_nothing(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (done / "params.yaml").write_text("{}")
    (done / "catalog.txt").write_text("changed by hand")
    before = {path: path.stat().st_mtime_ns for path in done.iterdir()}
    said = retraining.retrain(dry=True, return_state=True).message
    assert "at most 5 of 5 stages: catalog, folds, train@fold0-lite_0" in said
    assert "as the first champion" in said
    assert {path: path.stat().st_mtime_ns for path in done.iterdir()} == before


def test_dry_with_folds_names_their_stages_only(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = {"a": frozenset[str](), "train@fold0-x": frozenset({"a"}), "train@fold1-x": frozenset({"a"})}
    monkeypatch.setattr(retraining, "read_graph", lambda: graph)
    monkeypatch.setattr(retraining, "changed_stages", lambda: ["a"])
    said = retraining.forecast(Params(), False, ["fold1"])
    assert "at most 2 of 3 stages: a, train@fold1-x. Nothing would be registered" in said


def test_dry_says_what_would_be_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(number: str, **tags: str) -> Any:
        return Version(number, tags, (), "", "")

    known = {"champion": version("3"), "lock": version("5", verdict="rejected")}
    monkeypatch.setattr(retraining, "store_exists", lambda: True)
    monkeypatch.setattr(retraining, "lock_hash", lambda params: "lock")
    monkeypatch.setattr(retraining.registry, "champion", lambda: known["champion"])
    monkeypatch.setattr(retraining.registry, "find_by_lock", known.get)
    monkeypatch.setattr("lerenet.registry.promote.settled", lambda version: True)
    outlook: Any = retraining._outlook
    assert "new version against version 3" in outlook(None, True, False)
    assert outlook(None, False, False) == "Version 5 is decided: rejected. Nothing would be done"
    monkeypatch.setattr(
        "lerenet.registry.promote.judge", lambda challenger, champion, params: Verdict("inconclusive", ())
    )
    assert "judged against version 3: inconclusive" in outlook(None, False, True)
    known["lock"] = known["champion"]
    assert "is the champion" in outlook(None, False, True)
    del known["lock"]
    assert "would be registered and judged against version 3" in outlook(None, False, False)


@pytest.fixture
def drifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A champion in ``old/`` and, in ``artifacts/``, darker images beside its own; published texts."""
    from tests.helpers.arrivals import arrive, catalogue

    monkeypatch.chdir(tmp_path)
    old = catalogue({"A": 50, "B": 50}).drop(columns="embedding")
    more = catalogue({"A": 15}, brightness=0.2, seed=1).drop(columns="embedding")
    for folder, frame in (("old", old), ("artifacts", arrive(old, more))):
        Path(folder).mkdir()
        measured = ["image", "brightness", "contrast"]
        frame[measured].to_parquet(Path(folder) / "profile.parquet")
        frame.reindex(columns=[*COLUMNS]).to_parquet(Path(folder) / "catalog.parquet")
    monkeypatch.setattr(retraining.registry, "champion", lambda: SimpleNamespace(number="3"))
    monkeypatch.setattr(retraining.registry, "resolve", lambda number: Path("old"))
    published: list[str] = []
    monkeypatch.setattr(retraining, "create_markdown_artifact", lambda text, **_named: published.append(text))
    return published


@pytest.mark.parametrize(("action", "accept"), [("warn", False), ("block", True)])
def test_a_shift_that_may_pass_is_published_and_logged(
    drifted: list[str], caplog: pytest.LogCaptureFixture, action: str, accept: bool
) -> None:
    retraining.report_drift(Params.model_validate({"drift": {"action": action}}), accept)
    assert "Shifted: A: brightness." in drifted[0]
    assert "A: brightness" in caplog.text


def test_a_shift_blocks_the_retraining_where_it_shall(drifted: list[str]) -> None:
    with pytest.raises(DataError, match=r"A: brightness[\s\S]*accept_drift=True"):
        retraining.report_drift(Params.model_validate({"drift": {"action": "block"}}))
    assert len(drifted) == 1  # the report is there to be read
    shutil.copytree("artifacts", "old", dirs_exist_ok=True)
    retraining.report_drift(Params.model_validate({"drift": {"action": "block"}}))
    assert drifted[1] == "The images are the same.\n"


# -- deployments --------------------------------------------------------------------------------


def deployments() -> dict[str, dict[str, Any]]:
    """The entries of prefect.yaml by ``<flow>/<name>``."""
    found = {}
    for entry in yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]:
        path, _, name = entry["entrypoint"].partition(":")
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        found[f"{getattr(module, name).name}/{entry['name']}"] = entry
    return found


def test_every_flow_has_one_deployment_that_runs_one_at_a_time() -> None:
    found = deployments()
    flows = [name.partition("/")[0] for name in found]
    assert len(set(flows)) == len(flows)
    for name, entry in found.items():
        strategy = "ENQUEUE" if name == "retrain/automatic" else "CANCEL_NEW"  # no change of the data is lost
        assert entry["concurrency_limit"] == {"limit": 1, "collision_strategy": strategy}, name
    assert {"fold-splitting/manual", "evaluation/manual", "promote/manual", "rollback/manual"} <= set(found)


def test_the_retraining_runs_at_night_and_on_new_data_and_says_for_whom() -> None:
    import inspect

    from flows import watch

    entry = deployments()["retrain/automatic"]
    (trigger,), (schedule,) = entry["triggers"], entry["schedules"]
    assert (schedule["cron"], schedule["parameters"]) == ("0 2 * * *", {"operator": "schedule"})
    assert trigger["expect"] == [watch.EVENT]
    assert trigger["match"] == {"prefect.resource.id": watch.RESOURCE}
    assert trigger["parameters"] == {"operator": "data"}
    assert entry["parameters"] == {"wait": True}
    assert {"operator", "wait"} <= set(inspect.signature(retraining.retrain.fn).parameters)


# -- names and operators ------------------------------------------------------------------------


@pytest.mark.usefixtures("server")
def test_runs_are_named_by_what_they_do(recorded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data.dvc").write_text("outs:\n- md5: 3f5a52b4c0ffee.dir\n")
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    assert called(retraining.retrain) == f"retrain {day} data 3f5a52b4"
    assert called(retraining.retrain, folds=["fold1"]) == f"retrain fold1 {day} data 3f5a52b4"
    monkeypatch.setattr(groups, "mirror", lambda *_: [])
    assert called(groups.evaluation) == f"evaluation {day} data 3f5a52b4"


def called(work: Any, **given: Any) -> str:
    from prefect.client.orchestration import get_client

    state = work(**given, return_state=True)
    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(state.state_details.flow_run_id).name)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(("given", "operator"), [({}, user()), ({"operator": "data"}, "data")])
def test_the_ledger_names_who_asked(
    recorded: list[str], monkeypatch: pytest.MonkeyPatch, given: dict[str, str], operator: str
) -> None:
    asked: list[str] = []

    def decide(_version: str, _params: Params, who: str) -> Verdict:
        asked.append(who)
        return Verdict("rejected", ("worse",))

    monkeypatch.setattr(retraining, "decide", decide)
    retraining.retrain(**given)
    assert asked == [operator]


# -- notices ------------------------------------------------------------------------------------


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as made:
        monkeypatch.setenv("LERENET_NOTIFY", made.address)
        yield made


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("error", "title"),
    [(dvc.StageError("train: boom"), "retraining failed"), (Shifted("A: brightness"), "retraining blocked")],
)
def test_a_failure_is_told_once(
    recorded: list[str], chat: Receiver, monkeypatch: pytest.MonkeyPatch, error: Exception, title: str
) -> None:
    def fail(*_words: Any) -> None:
        raise error

    monkeypatch.setattr(retraining, "report_drift", fail)
    assert retraining.retrain(return_state=True).is_failed()
    (got,) = chat.got
    assert title in got["title"]
    name, why, look = got["text"].splitlines()
    assert name.startswith("retrain 20")
    assert why in str(error)
    assert look.startswith("see: prefect flow-run logs ")


@pytest.mark.usefixtures("server")
def test_one_that_is_cut_short_is_told_and_a_receiver_that_is_down_stops_nothing(
    recorded: list[str], chat: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_words: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(retraining, "report_drift", interrupted)
        retraining.retrain()
    assert "retraining cut short" in chat.got[0]["title"]
    chat.status = 500
    assert retraining.retrain(return_state=True).is_completed()
