"""What the code imports is what pyproject.toml declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions, packages_distributions

import pytest
from packaging.specifiers import SpecifierSet

from tests.helpers import PROJECT

DECLARED = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
OWN = {"lerenet", "flows", "tests", "benchmarks"}


def declared(lines: list[str]) -> set[str]:
    return {re.split(r"[\s<>=!~;\[]", line, maxsplit=1)[0].lower().replace("_", "-") for line in lines}


def roots(folder: str) -> Iterator[str]:
    for path in (PROJECT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module.partition(".")[0]


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (("lerenet", "flows"), ["cvat", "dask", "onnx"]),
        (("tests", "benchmarks"), ["cvat", "dask", "onnx", "stores", "dev"]),
    ],
)
def test_every_import_is_declared(folders: tuple[str, ...], extras: list[str]) -> None:
    known = declared(DECLARED["dependencies"])
    for extra in extras:
        known |= declared(DECLARED["optional-dependencies"][extra])
    owners = packages_distributions()
    used = {root for folder in folders for root in roots(folder)} - OWN - set(sys.stdlib_module_names)
    missing = {
        root for root in used if not known & {name.lower().replace("_", "-") for name in owners.get(root, [])}
    }
    assert missing == set()


def test_what_is_locked_runs_on_every_python_that_the_project_does() -> None:
    lines = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    locked = declared([line for line in lines if line and not line.startswith("#")])
    oldest = "3.11.0"
    assert SpecifierSet(DECLARED["requires-python"]).contains(oldest)
    needs = {
        f"{one.name} {one.version}": one.metadata["Requires-Python"]
        for one in distributions()
        if one.name.lower().replace("_", "-") in locked and "Requires-Python" in one.metadata
    }
    assert {name: text for name, text in needs.items() if not SpecifierSet(text).contains(oldest)} == {}
