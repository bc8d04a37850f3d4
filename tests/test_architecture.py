"""The house's rules, held by walking the code: who may import whom, and what dvc.yaml may call."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lerenet.stages.table import STAGES as TABLE
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


def test_only_tracking_and_promotion_import_mlflow() -> None:
    assert {name.split("/")[1] for name in users(PACKAGE, "mlflow")} <= {"tracking", "promotion"}


def test_only_validate_imports_great_expectations() -> None:
    assert users(PACKAGE, "great_expectations") == {"lerenet/data/validate.py"}
    assert users(FLOWS, "great_expectations") == set()


def test_the_package_imports_neither_prefect_nor_dvc_nor_the_flows() -> None:
    for root in ("prefect", "dvc", "flows"):
        assert users(PACKAGE, root) == set(), root


def test_flows_import_one_another_only_through_stages() -> None:
    for path in FLOWS.rglob("*.py"):
        modules = {name for name in imports(path) if name.startswith("flows.")}
        others = {name.split(".")[1] for name in modules}
        others = {name for name in others if (FLOWS / name).is_dir() or (FLOWS / f"{name}.py").exists()}
        assert others <= ({"stages", "runners"} if path.parent == FLOWS else {path.parent.name}), path


def test_only_flows_stages_starts_dvc() -> None:
    for path in (*PACKAGE.rglob("*.py"), *FLOWS.rglob("*.py")):
        if path.name == "stages.py" and path.parent == FLOWS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List | ast.Tuple) and node.elts:
                first = node.elts[0]
                assert not (isinstance(first, ast.Constant) and first.value == "dvc"), path


def test_models_import_no_data_and_data_imports_no_models() -> None:
    for folder, forbidden in (
        ("models", "lerenet.data"),
        ("data", "lerenet.models"),
        ("data", "lerenet.train"),
    ):
        for path in (PACKAGE / folder).rglob("*.py"):
            assert not [name for name in imports(path) if name.startswith(forbidden)], path


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

    walk(PACKAGE / "cli.py")
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
    "cli",
    "errors",
    "files",
    "layout",
    "progress",
    "tracking",
    "device",
    "stages/common",
    "stages/__init__",
    "stages/table",
    "params",
    "__init__",
)


def closure(path: Path, seen: set[str]) -> set[str]:
    relative = path.relative_to(PACKAGE).with_suffix("").as_posix()
    if relative in seen or relative.startswith(PLUMBING):
        return seen
    seen.add(relative)
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
