"""What is printed reaches any terminal: letters that its encoding lacks are escaped."""

from __future__ import annotations

import io
import sys


def any_letters() -> None:
    """From now on standard output and error escape what they can't encode, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
