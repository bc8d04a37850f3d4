"""How a command line meets its terminal: letters that it lacks are escaped, errors end without a traceback."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

from lerenet.errors import LerenetError


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
