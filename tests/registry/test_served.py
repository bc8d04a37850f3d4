"""A version answers with the code that it carries, in a process that knows nothing of the project."""

from __future__ import annotations

import ast
import shutil
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from lerenet.models.serialization import LoadedNetwork, load_network, save_network
from lerenet.registry import served
from tests.helpers import PROJECT

# MLflow compares a range with a column when it writes the input example.
pytestmark = [pytest.mark.whole, pytest.mark.filterwarnings("ignore:Operation with range is deprecated")]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, loaded: LoadedNetwork) -> Path:
    """A network as a registered version packs it."""
    folder = tmp_path_factory.mktemp("package") / "package"
    save_network(folder, loaded.network.head, loaded.network.backbone, dict(loaded.config))
    return folder


@pytest.fixture(scope="module")
def model(package: Path) -> Path:
    path = package.with_name("model")
    served.save(path, package)
    return path


def test_the_model_carries_its_code_and_gives_the_networks_mask(model: Path, package: Path) -> None:
    assert (model / "code" / "lerenet" / "inference.py").is_file()
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*")}
    assert served.agrees(model, load_network(package))
    assert {path: path.stat().st_mtime_ns for path in model.rglob("*")} == before  # nothing compiled into it


def test_it_is_the_carried_code_that_answers(model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    (other / "code" / "lerenet" / "errors.py").write_text("raise ImportError('the carried one')\n")
    assert served.answer(other) is None


def imported(path: Path, seen: set[Path]) -> set[str]:
    """Roots of what a module of ours imports, and what of ours it imports imports in turn."""
    if path in seen or not path.exists():
        return set()
    seen.add(path)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            found |= {parts[0]} - {"lerenet"}
            for end in range(1, len(parts) + 1 if parts[0] == "lerenet" else 0):
                base = PROJECT.joinpath(*parts[:end])
                found |= imported(base.with_suffix(".py"), seen) | imported(base / "__init__.py", seen)
    return found


def test_the_requirements_are_what_the_code_imports() -> None:
    owners = packages_distributions()
    roots = imported(served.CODE, set()) - set(sys.stdlib_module_names)
    assert "torch" in roots
    required = set(served.REQUIREMENTS)
    named = {root: {name.lower().replace("_", "-") for name in owners[root]} for root in roots}
    assert [root for root, names in named.items() if not required & names] == []
