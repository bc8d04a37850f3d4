"""`lerenet retrain` hands what it was asked to the flow."""

from __future__ import annotations

import os
import sys

import pytest
from typer.testing import CliRunner

from lerenet.cli.main import app


def test_every_option_reaches_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, words: called.append(words))
    words = [
        "--operator",
        "ada",
        "--dry",
        "--force",
        "--wait",
        "--no-pull",
        "--accept-drift",
        "--jobs",
        "2",
        "--fold",
        "fold0",
    ]
    assert CliRunner().invoke(app, ["retrain", *words]).exit_code == 0
    (told,) = called
    assert told[:3] == [sys.executable, "-m", "flows.retrain"]
    assert {"--dry", "--force", "--wait", "--no-pull", "--accept-drift"} <= set(told)
    for option, value in {
        "--jobs": "2",
        "--fold": "fold0",
        "--operator": "ada",
        "--runner": "local",
    }.items():
        assert told[told.index(option) + 1] == value


def test_the_flow_knows_every_option() -> None:
    import typer

    from flows.retrain import command

    flow = typer.Typer()
    flow.command()(command)
    known = {
        name for each in typer.main.get_command(flow).params for name in (*each.opts, *each.secondary_opts)
    }
    asked = typer.main.get_command(app).get_command(None, "retrain")  # type: ignore[attr-defined, arg-type]
    assert {name for each in asked.params for name in (*each.opts, *each.secondary_opts)} <= known | {
        "--help"
    }
