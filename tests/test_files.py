"""Files are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lerenet import files
from lerenet.errors import LerenetError


def test_an_error_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "old")
    with pytest.raises(ValueError, match="stop"), files.atomic_path(target) as temporary:
        temporary.write_text("new")
        raise ValueError("stop")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_an_error_with_the_name_and_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "old")
    with pytest.raises(LerenetError, match=r"a\.txt.*No space left"), files.atomic_path(target) as temporary:
        temporary.write_text("new")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "d"
    with files.atomic_dir(target) as temporary:
        (temporary / "one").write_text("1")
    with pytest.raises(RuntimeError), files.atomic_dir(target) as temporary:
        (temporary / "two").write_text("2")
        raise RuntimeError
    assert os.listdir(target) == ["one"]
    with files.atomic_dir(target) as temporary:
        (temporary / "two").write_text("2")
    assert os.listdir(target) == ["two"]
    assert os.listdir(tmp_path) == ["d"]


def test_a_folder_lost_between_two_renames_comes_back(tmp_path: Path) -> None:
    lost = tmp_path / f"{files.TEMPORARY}999999999-old-d"
    lost.mkdir()
    (lost / "one").write_text("1")
    (tmp_path / f"{files.TEMPORARY}999999999-d").mkdir()
    files.recover_dir(tmp_path / "d")
    assert os.listdir(tmp_path) == ["d"]
    assert os.listdir(tmp_path / "d") == ["one"]


def test_nan_is_refused_in_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "m.json", {"loss": float("nan")})
    assert not (tmp_path / "m.json").exists()


def test_missing_and_broken_json_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(LerenetError, match=r"none\.json: not found"):
        files.read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(LerenetError, match=r"bad\.json: not valid JSON"):
        files.read_json(tmp_path / "bad.json")


def test_too_little_space_says_how_much_is_needed(tmp_path: Path) -> None:
    with pytest.raises(LerenetError, match="needed"):
        files.require_space(tmp_path / "not" / "yet", 10**18)


WRITER = """
import sys
from pathlib import Path
from lerenet.files import atomic_path
n = 0
while True:
    n += 1
    with atomic_path(Path(sys.argv[1])) as t:
        t.write_text(f"{n}\\n" * 200_000 + "end")
    print(n, flush=True)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "state.txt"
    for wait in (0.013, 0.031, 0.07):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        text = target.read_text()
        lines = text.splitlines()
        assert lines[-1] == "end"
        assert len(set(lines)) == 2
    files.sweep_temporaries(tmp_path)
    assert os.listdir(tmp_path) == ["state.txt"]
