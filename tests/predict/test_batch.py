"""Batches: a bad picture costs one row, an interrupted call goes on where it was, and nothing is done twice."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lerenet.cli import main as cli
from lerenet.errors import LerenetError
from lerenet.files import TEMPORARY, read_json
from lerenet.models.serialization import LoadedNetwork
from lerenet.predict import Pair, predict, work
from lerenet.predict.journal import Journal, opened
from lerenet.predict.results import JOURNAL
from tests.helpers import PROJECT
from tests.helpers.prediction import SIZE, names, picture, pictures, truth

pytestmark = pytest.mark.usefixtures("prepared_once")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each call of the network for a query."""
    seen: list[int] = []
    real = work.segment

    def counted(*args: Any) -> Any:
        seen.append(1)
        return real(*args)

    monkeypatch.setattr(work, "segment", counted)
    return seen


def files(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of the pictures in an output folder."""
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of predictions.json, without the one number that differs from call to call."""
    return [{**row, "milliseconds": 0} for row in read_json(folder / "predictions.json")["predictions"]]


def test_a_broken_picture_of_twelve_is_a_row_and_status_1(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    queries = pictures(tmp_path / "parts", 12)
    queries[4].write_bytes(queries[4].read_bytes()[:200])
    Image.new("RGB", (40, 3)).save(queries[7])
    queries[9].write_bytes(b"GIF89a")
    found = predict([support], queries, tmp_path / "out", loaded)
    assert [row.query for row in found.predictions] == [str(path) for path in queries]
    assert [row.query for row in found.failed] == [str(queries[place]) for place in (4, 7, 9)]
    for row, word in zip(found.failed, ("can't be read", "40 x 3 pixels", "GIF"), strict=True):
        assert row.query in row.error
        assert word in row.error
        assert (row.mask, row.overlay, row.sha256, row.foreground, row.milliseconds) == ("", "", "", 0, 0)
    assert len(list((tmp_path / "out").glob("*_mask.png"))) == 9
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as handle:
        assert [row["error"] for row in csv.DictReader(handle)] == [row.error for row in found.predictions]


def test_a_mended_picture_is_all_that_is_done_again(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork, calls: list[int]
) -> None:
    queries, out = pictures(tmp_path / "parts", 5), tmp_path / "out"
    whole = queries[2].read_bytes()
    queries[2].write_bytes(b"")
    predict([support], queries, out, loaded)
    assert len(calls) == 4
    queries[2].write_bytes(whole)
    assert not predict([support], queries, out, loaded).failed
    assert len(calls) == 5
    predict([support], [*queries, *pictures(tmp_path / "more", 1)], out, loaded)
    assert len(calls) > 5


def test_the_same_call_again_makes_only_what_is_gone_or_changed(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork, calls: list[int]
) -> None:
    queries, out = pictures(tmp_path / "parts", 6), tmp_path / "out"
    first = predict([support], queries, out, loaded)
    before = files(out)
    assert predict([support], queries, out, loaded).predictions == first.predictions
    assert len(calls) == 6
    (out / "p01_mask.png").unlink()
    (out / "p02_overlay.png").unlink()
    queries[3].write_bytes(queries[4].read_bytes())
    predict([support], queries, out, loaded)
    assert len(calls) == 9
    after = files(out)
    assert {name for name in before if after[name] != before[name]} == {"p03_mask.png", "p03_overlay.png"}
    assert after["p03_mask.png"] == after["p04_mask.png"]


def test_another_support_model_or_reading_makes_all_anew(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork, calls: list[int]
) -> None:
    from lerenet.data.reading import Reading

    other = picture(tmp_path / "in" / "other.png", 8)
    predict([support], [query], tmp_path / "out", loaded)
    predict([(other, truth(other))], [query], tmp_path / "out", loaded)
    predict([(other, truth(other))], [query], tmp_path / "out", loaded, reading=Reading(bits=8))
    torch.manual_seed(1)
    from lerenet.models.serialization import matching_network

    predict([support], [query], tmp_path / "out", matching_network(SIZE, init="random"))
    assert len(calls) == 4


CHILD = """
import os, signal, sys
from pathlib import Path
from lerenet.predict import predict, work
from tests.helpers.prediction import network

folder, done, real = Path(sys.argv[1]), [], work.segment

def segment(*args):
    done.append(1)
    if len(done) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)

work.segment = segment
support = folder / "in" / "support.png", folder / "in" / "support_truth.png"
predict([support], sorted((folder / "parts").iterdir()), folder / "out", network())
"""


@pytest.mark.whole
def test_a_killed_call_goes_on_and_ends_as_if_nothing_had_been(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork, calls: list[int]
) -> None:
    queries, out = pictures(tmp_path / "parts", 7), tmp_path / "out"
    words = [sys.executable, "-c", CHILD, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    assert subprocess.run(words, env=environment, check=False, timeout=120).returncode == -signal.SIGKILL
    assert names(out) == {JOURNAL, *(f"p0{n}_{what}.png" for n in range(3) for what in ("mask", "overlay"))}
    with (out / JOURNAL).open("a") as handle:
        handle.write('{"row": {"query": "torn')
    predict([support], queries, out, loaded)
    assert len(calls) == 4
    predict([support], queries, tmp_path / "whole", loaded)
    assert files(out) == files(tmp_path / "whole")
    assert rows(out) == rows(tmp_path / "whole")
    assert names(out) == names(tmp_path / "whole")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT does what it does in a program of its own, whatever runs the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_with_status_130_and_says_how_to_go_on(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork, calls: list[int],
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    queries, out, counted = pictures(tmp_path / "parts", 5), tmp_path / "out", work.segment

    def interrupted(*args: Any) -> Any:
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)  # for the main thread to hear it
        return counted(*args)

    monkeypatch.setattr(work, "segment", interrupted)
    words = ["-s", *support, "-q", tmp_path / "parts", "-o", out]
    assert run(monkeypatch, lambda *_: loaded, *words) == 130
    told = capfd.readouterr()
    assert told.out == ""
    ready = len(list(out.glob("*_mask.png")))
    assert f"{ready} of 5 are in {out}; the same command goes on" in told.err
    assert "Traceback" not in told.err
    assert 2 <= ready < 5
    monkeypatch.setattr(work, "segment", counted)
    calls.clear()
    predict([support], queries, out, loaded)
    assert len(calls) == 5 - ready


class Killed(BaseException):
    """Stands for the end of the process: nothing of ours runs after it but what closes files."""


@pytest.mark.parametrize("point", ["before the overlay", "before the mask", "half a file"])
def test_wherever_a_kill_falls_the_next_call_goes_on(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork, calls: list[int],
    monkeypatch: pytest.MonkeyPatch, point: str,
) -> None:  # fmt: skip
    queries, out = pictures(tmp_path / "parts", 4), tmp_path / "out"
    other = picture(tmp_path / "in" / "other.png", 8)
    predict([(other, truth(other))], queries, out, loaded)  # whose masks are replaced now, one by one
    real, end = Journal._replace, {"before the mask": "p01_mask.png"}.get(point, "p01_overlay.png")
    dead: list[str] = []

    def replace(self: Journal, name: str, content: bytes) -> None:
        if name == end or dead:
            dead.append(name)
            if point == "half a file":
                (self.out / f"{TEMPORARY}predict-x.png").write_bytes(content[:9])
            raise Killed
        real(self, name, content)

    monkeypatch.setattr(Journal, "_replace", replace)
    with pytest.raises(Killed):
        predict([support], queries, out, loaded)
    monkeypatch.setattr(Journal, "_replace", real)
    calls.clear()
    predict([support], queries, out, loaded)
    assert len(calls) == 3
    predict([support], queries, tmp_path / "whole", loaded)
    assert files(out) == files(tmp_path / "whole")
    assert rows(out) == rows(tmp_path / "whole")
    assert not any(name.startswith(TEMPORARY) for name in names(out))


def test_a_full_disk_ends_the_call_and_what_is_there_stays(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork, monkeypatch: pytest.MonkeyPatch, calls: list[int]
) -> None:
    out, real = tmp_path / "out", Journal._replace
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    queries = pictures(tmp_path / "parts", 3)

    def full(self: Journal, name: str, content: bytes) -> None:
        if name == "p02_mask.png":
            raise OSError(28, "No space left on device")
        real(self, name, content)

    monkeypatch.setattr(Journal, "_replace", full)
    with pytest.raises(LerenetError, match=r"No space left.*\n.*the same command then goes on"):
        predict([support], queries, out, loaded)
    assert {"notes.txt", JOURNAL, "p01_mask.png"} <= names(out)
    monkeypatch.setattr(Journal, "_replace", real)
    calls.clear()
    predict([support], queries, out, loaded)
    assert len(calls) == 1
    assert (out / "notes.txt").read_text() == "mine"
    assert JOURNAL not in names(out)


def test_a_second_call_in_the_same_folder_is_refused(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    with opened(tmp_path / "out"), pytest.raises(LerenetError, match="another `lerenet predict` is at work"):
        predict([support], [query], tmp_path / "out", loaded)
    assert not (tmp_path / "out").exists()
    predict([support], [query], tmp_path / "out", loaded)


def test_no_result_depends_on_threads_or_neighbours(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    queries, threads = pictures(tmp_path / "parts", 9), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        predict([support], queries, tmp_path / "three", loaded)
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        predict([support], queries[4:], tmp_path / "one", loaded)
    finally:
        torch.set_num_threads(threads)
    three, one = files(tmp_path / "three"), files(tmp_path / "one")
    assert len(one) == 10
    assert all(three[name] == content for name, content in one.items())


def run(monkeypatch: pytest.MonkeyPatch, model: Callable[..., LoadedNetwork], *words: object) -> int:
    """The status of `lerenet predict` with these words, in this process."""
    monkeypatch.setattr("lerenet.predict.call.open_model", model)
    monkeypatch.setattr(sys, "argv", ["lerenet", "predict", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_json_is_all_that_is_on_stdout_and_failures_are_told_on_stderr(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    queries = pictures(tmp_path / "parts", 3)
    queries[1].write_bytes(b"")
    words = ["-s", *support, "-q", tmp_path / "parts", "-o", tmp_path / "out", "--json"]
    assert run(monkeypatch, lambda *_: loaded, *words) == 1
    told = capfd.readouterr()
    assert json.loads(told.out) == read_json(tmp_path / "out" / "predictions.json")
    assert (
        f"1 of 3 queries have no mask; each reason is in {tmp_path / 'out' / 'predictions.csv'}" in told.err
    )
    assert "p01.png: is empty" in told.err
    assert "predict: 3/3" in told.err


def test_usage_errors_keep_status_2(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pictures(tmp_path / "parts", 1)
    words = ["-s", *support, "-q", tmp_path / "parts", "-o", tmp_path / "out"]
    for wrong in (["--bits", "7"], ["--label", "red"], ["--drawn-on", "paper"], ["-s", support[0]]):
        assert run(monkeypatch, lambda *_: loaded, *words, *wrong) == 2
        assert "Traceback" not in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
