"""The house's rules, held by walking the code: who may import whom, and what dvc.yaml may call."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lerenet.pipeline import STAGES as TABLE
from tests.helpers import PROJECT

PACKAGE, FLOWS = PROJECT / "lerenet", PROJECT / "flows"


def imports(path: Path, top_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def users(folder: Path, root: str) -> set[str]:
    return {
        path.relative_to(PROJECT).as_posix()
        for path in folder.rglob("*.py")
        if any(name.split(".")[0] == root for name in imports(path))
    }


# A room imports from those before it. What lies loose is the ground floor, and what puts rooms together for a use.
ROOMS = (
    "data", "annotations", "models", "features", "evaluation", "training", "drift", "tracking", "enrolment", "measure",
    "registry", "predict", "paper", "cost", "report", "stages", "page", "cli",
)  # fmt: skip
GROUND = (
    "__init__",
    "cells",
    "device",
    "errors",
    "files",
    "layout",
    "params",
    "pipeline",
    "progress",
    "seeds",
    "yaml_file",
)
LOOSE = 15


def room_of(name: str) -> str | None:
    """The room of a dotted name of the package; of a loose file its own name; None outside the package."""
    parts = name.split(".")
    return parts[1] if parts[0] == "lerenet" and len(parts) > 1 else None


def test_few_modules_lie_loose() -> None:
    loose = sorted(path.stem for path in PACKAGE.glob("*.py"))
    assert len(loose) <= LOOSE, loose
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(
        ROOMS
    )


def test_no_room_imports_from_one_above_it() -> None:
    upward = []
    for path in PACKAGE.rglob("*.py"):
        here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imports(path):
            there = room_of(name)
            if there is None or there == here:
                continue
            if here in GROUND and there in ROOMS:
                upward.append((here, name))
            if here in ROOMS and there in ROOMS and ROOMS.index(there) > ROOMS.index(here):
                upward.append((path.relative_to(PACKAGE).as_posix(), name))
    assert not upward


def test_models_and_data_know_nothing_of_one_another() -> None:
    for folder, forbidden in (("models", "lerenet.data"), ("data", "lerenet.models")):
        for path in (PACKAGE / folder).rglob("*.py"):
            assert not [name for name in imports(path) if name.startswith(forbidden)], path


def test_only_tracking_and_registry_import_mlflow() -> None:
    assert {name.split("/")[1] for name in users(PACKAGE, "mlflow")} <= {"tracking", "registry"}


def test_only_the_validation_imports_great_expectations() -> None:
    assert users(PACKAGE, "great_expectations") == {"lerenet/data/validation/runner.py"}
    assert users(FLOWS, "great_expectations") == set()


def test_the_package_imports_neither_prefect_nor_dvc_nor_the_flows() -> None:
    for root in ("prefect", "dvc", "flows"):
        assert users(PACKAGE, root) == set(), root


# Each may import those before it.
SHARED = ("turns", "dvc", "graph", "data", "runners", "naming", "mirror", "parent", "notices", "tabulate")


def test_flows_import_one_another_only_through_what_they_share() -> None:
    for path in FLOWS.rglob("*.py"):
        modules = {name for name in imports(path) if name.startswith("flows.")}
        others = {name.split(".")[1] for name in modules}
        others = {name for name in others if (FLOWS / name).is_dir() or (FLOWS / f"{name}.py").exists()}
        below = SHARED[: SHARED.index(path.stem)] if path.stem in SHARED else SHARED
        assert others <= set(below if path.parent == FLOWS else {path.parent.name}), path


def test_only_flows_dvc_starts_dvc() -> None:
    for path in (*PACKAGE.rglob("*.py"), *FLOWS.rglob("*.py")):
        if path == FLOWS / "dvc.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List | ast.Tuple) and node.elts:
                first = node.elts[0]
                assert not (isinstance(first, ast.Constant) and first.value == "dvc"), path


def test_no_test_module_imports_another() -> None:
    for path in (PROJECT / "tests").rglob("*.py"):
        assert not [name for name in imports(path) if name.split(".")[-1].startswith("test_")
                    and name.startswith("tests.")], path  # fmt: skip


HEAVY = {
    "torch",
    "mlflow",
    "great_expectations",
    "prefect",
    "pandas",
    "matplotlib",
    "skimage",
    "timm",
    "scipy",
    "pycocotools",
}


def test_the_command_line_starts_without_heavy_imports() -> None:
    seen: set[Path] = set()

    def walk(path: Path) -> None:
        if path in seen:
            return
        seen.add(path)
        for name in imports(path, top_only=True):
            assert name.split(".")[0] not in HEAVY, (path, name)
            if name.startswith("lerenet"):
                parts = name.split(".")
                for end in range(1, len(parts) + 1):
                    base = PROJECT.joinpath(*parts[:end])
                    for file in (base.with_suffix(".py"), base / "__init__.py"):
                        if file.exists():
                            walk(file)

    walk(PACKAGE / "cli" / "main.py")
    assert len(seen) > 5


STAGES = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]


def test_the_table_of_stages_is_that_of_dvc_in_an_order_that_runs() -> None:
    assert {stage.name for stage in TABLE} == set(STAGES)
    made: set[str] = set()
    for stage in TABLE:
        deps = [dep for dep in STAGES[stage.name]["deps"] if dep.startswith("artifacts/")]
        others = [
            (name, out if isinstance(out, str) else next(iter(out)))
            for name, entry in STAGES.items()
            if name != stage.name
            for out in (*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", []))
        ]
        for dep in deps:
            folder = dep.partition("$")[0].rstrip("/")
            makers = {name for name, out in others if out.partition("$")[0].rstrip("/").startswith(folder) or
                      folder.startswith(out.partition("$")[0].rstrip("/") + "/")}  # fmt: skip
            assert not makers or makers & made, (stage.name, dep)
        made.add(stage.name)


def test_no_stage_calls_flows_prefect_or_dvc() -> None:
    for name, stage in STAGES.items():
        words = stage["cmd"].replace("/", " ").split()
        assert not {"flows", "prefect", "dvc"} & set(words), name
        assert words[:3] == ["python", "-m", "lerenet"], name


@pytest.mark.parametrize("name", STAGES)
def test_every_code_dependency_exists(name: str) -> None:
    for dep in STAGES[name]["deps"]:
        if dep.startswith("lerenet"):
            assert (PROJECT / dep).exists(), dep


ENTRY = {stage.name: stage.module for stage in TABLE}
# Modules every stage passes through that hold no result: command line, errors, paths, tracking, progress; and device,
# whose answers are the machine's.
PLUMBING = (
    "cells",
    "cli",
    "errors",
    "files",
    "layout",
    "progress",
    "tracking",
    "device",
    "stages/common",
    "stages/__init__",
    "pipeline",
    "params",
    "__init__",
)


def closure(path: Path, seen: set[str]) -> set[str]:
    relative = path.relative_to(PACKAGE).with_suffix("").as_posix()
    if relative in seen or relative.startswith(PLUMBING):
        return seen
    seen.add(relative)
    if relative == "models/config":  # imports every file that may hold a network, by name
        for file in (PACKAGE / "models").rglob("*.py"):
            closure(file, seen)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "lerenet":
            for end in range(2, len(parts) + 1):
                file = PACKAGE.joinpath(*parts[1:end]).with_suffix(".py")
                if file.exists():
                    closure(file, seen)
    return seen


@pytest.mark.parametrize("name", STAGES)
def test_dvc_lists_the_code_that_a_stage_uses(name: str) -> None:
    """Code that a stage imports and dvc.yaml does not name would serve stale results after an edit."""
    needed = closure(PACKAGE / "stages" / f"{ENTRY[name]}.py", set())
    listed = {
        dep.removeprefix("lerenet/").removesuffix(".py")
        for dep in STAGES[name]["deps"]
        if dep.startswith("lerenet")
    }
    missing = {
        part for part in needed if not any(part == dep or part.startswith(f"{dep}/") for dep in listed)
    }
    assert not missing
