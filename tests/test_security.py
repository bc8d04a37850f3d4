"""Nothing is unpickled or evaluated, anywhere in the package: found in the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import PROJECT

FILES = [path for folder in ("lerenet", "flows") for path in sorted((PROJECT / folder).rglob("*.py"))]
UNPICKLERS = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
}
PICKLING = {
    "read_pickle",
    "unsafe_load",
    "full_load",
    "load_all",
    "UnsafeLoader",
    "FullLoader",
    "allow_pickle",
}
MODEL_LOADERS = {"mlflow.sklearn", "mlflow.pytorch"}  # their formats are pickles


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def dangers(tree: ast.AST) -> Iterator[str]:
    """What a syntax tree does that could run a file's contents."""
    for node in ast.walk(tree):
        for name in imported(node):
            if name.partition(".")[0] in UNPICKLERS or name in MODEL_LOADERS:
                yield f"line {node.lineno}: imports {name}"  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):
            yield from (f"line {node.lineno}: {found}" for found in of_call(node))


def of_call(node: ast.Call) -> Iterator[str]:
    called = ast.unparse(node.func)
    named = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if called in ("eval", "exec", "compile", "__import__"):
        yield called
    if called == "torch.load" and named.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if called == "yaml.load" and "Safe" not in named.get("Loader", " ".join(map(ast.unparse, node.args[1:]))):
        yield "yaml.load without a safe loader"
    if called.rpartition(".")[2] in PICKLING or named.get("allow_pickle", "False") != "False":
        yield f"{called} reads pickles"
    if any(called.startswith(f"{name}.load") for name in MODEL_LOADERS) or named.get("shell") == "True":
        yield called


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_the_package_unpickles_and_evaluates_nothing(path: Path) -> None:
    assert list(dangers(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "exec(text)",
        "mlflow.pytorch.load_model(uri)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_the_search_finds(line: str) -> None:
    assert list(dangers(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    ["torch.load(p, weights_only=True)", "yaml.safe_load(t)", "yaml.load(t, yaml.SafeLoader)", "np.load(p)"],
)
def test_the_search_lets_pass(line: str) -> None:
    assert not list(dangers(ast.parse(line)))
