"""Slow: the tutorials do what they say: the commands of each page, in its order, in a fresh project."""

from __future__ import annotations

import doctest
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from lerenet.data.sample import make_sample
from tests.faults.stack import free_ports
from tests.helpers import PROJECT, pipeline

pytestmark = pytest.mark.slow
PAGES = PROJECT / "docs" / "tutorials"
BLOCK = re.compile(r"^```bash\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
MARK = "----- the next block -----"
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE  # `...` stands for whatever comes there
LIMIT = "3600"  # seconds; then the shell and all that it started are ended
PORTS = ("LERENET_PREFECT_PORT", "LERENET_MLFLOW_PORT", "LERENET_PAGE_PORT")


class Step(NamedTuple):
    """A block of commands, and what the page says that they print; nothing where it doesn't."""

    commands: str
    shown: str | None


def steps(page: str) -> list[Step]:
    found = [Step(*match.groups()) for match in BLOCK.finditer((PAGES / page).read_text(encoding="utf-8"))]
    assert found
    return found


def whole_sample(folder: Path) -> Path:
    """Nothing but the settings: the page makes the sample."""
    folder.mkdir()
    shutil.copyfile(PROJECT / "params.yaml", folder / "params.yaml")
    return folder


def small_sample(folder: Path) -> Path:
    """A clone with few images of the sample and short trainings."""
    folder.mkdir()
    make_sample(folder / "data", defect=6, clean=2)
    pipeline.as_dvc_project(folder)
    pipeline.add_flows(folder)
    return folder


def follow(page: str, project: Path, more: Mapping[str, str]) -> list[str]:
    """Run a page's blocks in one shell, which ends with the first command that fails; what each printed."""
    blocks = [f"echo '{MARK}'\n{step.commands}" for step in steps(page)]
    done = subprocess.run(
        ["timeout", LIMIT, "bash", "-euo", "pipefail", "-c", "".join(blocks)], cwd=project, text=True, check=False,
        capture_output=True, env=pipeline.environment() | {"COLUMNS": "200"} | more,
    )  # fmt: skip
    printed = done.stdout.split(f"{MARK}\n")[1:]
    if done.returncode:
        commands = steps(page)[len(printed) - 1].commands
        raise AssertionError(f"{page}: exit {done.returncode} in\n{commands}\n{printed[-1]}\n{done.stderr}")
    return printed


@pytest.mark.parametrize(
    ("page", "made"),
    [
        ("inspector.md", whole_sample),
        ("ml-engineer.md", small_sample),
        ("platform-engineer.md", small_sample),
    ],
)
def test_a_tutorial_does_what_it_says(page: str, made: Callable[[Path], Path], tmp_path: Path) -> None:
    project = made(tmp_path / "project")
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    try:
        printed = follow(page, project, ports)
    finally:
        if (project / "flows").is_dir():
            down = [sys.executable, "-m", "flows.services", "down"]
            subprocess.run(
                down, cwd=project, env=pipeline.environment() | ports, check=False, capture_output=True
            )
    checker = doctest.OutputChecker()
    for step, got in zip(steps(page), printed, strict=True):
        if step.shown is not None and not checker.check_output(step.shown, got, SAME):
            raise AssertionError(f"{page} says of\n{step.commands}\n{step.shown}\nbut there came\n{got}")
