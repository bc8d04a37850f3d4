"""How a command line meets its terminal: nothing is cut in a pipe, strange letters are escaped, errors end in words."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lerenet.errors import LerenetError

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 10_000  # columns where nobody looks: nothing is cut in a pipe
Json = Annotated[bool, typer.Option("--json", help="For a program: JSON.")]


def console() -> Console:
    """Standard output for tables: as wide as the terminal, and as wide as need be in a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, sort_keys=True, allow_nan=False))


def any_letters() -> None:
    """From now on standard output and error escape what they can't encode, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run_app(app: Callable[[], object]) -> None:
    """Call a command line: an error that a user can act on ends with its message and status 2."""
    any_letters()
    try:
        app()
    except LerenetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
