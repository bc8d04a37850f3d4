"""Slow: kills at named and random points; `python -m tests.faults --kills 100` makes more of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.pipeline import SOURCE, environment

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("scenario", "kills"),
    [("ledger", 8), ("promotion", 8), ("training", 8), ("repro", 2), ("stack", 2), ("reboots", 2)],
)
def test_whatever_is_killed_is_finished_by_the_same_command(
    scenario: str, kills: int, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "tests.faults", "--kills", str(kills), "--only", scenario]
    done = subprocess.run(
        [*words, "--keep", str(tmp_path)], cwd=SOURCE, env=environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


PROMOTE = """
import sys
sys.path.insert(0, sys.argv[1])
from lerenet import layout
from lerenet.models import serialization
from lerenet.params import load_params
from lerenet.registry.candidate import collect
from lerenet.registry.promote import promote
from lerenet.registry.registering import register
from tests.helpers.registry import load_network
serialization.load_network = load_network
params = load_params(layout.PARAMS)
promote(register(collect(params), params), params)
"""


def test_four_retrainings_at_once_make_one_version_and_one_entry(tmp_path: Path) -> None:
    from tests.helpers.registry import make_project

    make_project(tmp_path)
    words = [sys.executable, "-c", PROMOTE, str(SOURCE)]
    children = [subprocess.Popen(words, cwd=tmp_path, env=environment()) for _ in range(4)]
    assert [child.wait(900) for child in children] == [0, 0, 0, 0]
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 1
    assert len(list((tmp_path / "mlartifacts").glob("*/*/artifacts/model/MLmodel"))) <= 1
