"""The names that others may rely on: what packages export, and the commands of the command line."""

from __future__ import annotations

import importlib

import pytest
from typer.testing import CliRunner

EXPORTED = {
    "lerenet": {"__version__"},
    "lerenet.models": {"backbone_for", "configure", "create_model"},
}
COMMANDS = {"retrain", "backup", "restore", "prune",
    "renew", "enrol", "inspect", "export", "ui", "label-studio",
    "inspect-all",
    "catalog", "validate", "profile", "folds", "validate-folds", "pretrain", "features", "train", "ship", "floors",
    "enrol-all",
    "evaluate", "report", "results", "doctor", "cost", "predict", "promote", "verdict", "rollback", "ledger", "models",
    "lineage",
    "data",
}  # fmt: skip


@pytest.mark.parametrize("package", EXPORTED)
def test_packages_export_what_they_say(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) == EXPORTED[package]
    assert all(hasattr(module, name) for name in module.__all__)


def test_the_command_line_has_its_commands() -> None:
    import typer

    from lerenet.cli.main import app

    group = typer.main.get_command(app)
    assert set(group.commands) == COMMANDS  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "words", [[], ["data"], ["data", "import"], ["predict"], ["enrol"], ["inspect"], ["train"], ["promote"]]
)
def test_every_help_answers(words: list[str]) -> None:
    from lerenet.cli.main import app

    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0
    assert "Usage" in done.output


def test_a_user_error_ends_with_its_message_and_status_2(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from lerenet.cli import main as cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lerenet", "train", "fold0"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert "not found" in shown
    assert "Traceback" not in shown
