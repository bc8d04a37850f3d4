"""Where a child dies: a function, the number of its call, before or after it, or half-way through a file."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = "LERENET_FAULT"
STRUCK = "struck here"


@dataclass(frozen=True)
class Point:
    """Written as ``module:attribute[.attribute]@call/when``; ``when`` is before, after or torn.

    ``torn`` cuts what the call wrote first: the file of its path argument to half its length, or the
    open file of its descriptor by twenty bytes.
    """

    target: str
    call: int = 1
    when: str = "before"

    @classmethod
    def parse(cls, text: str) -> Point:
        target, _, rest = text.partition("@")
        call, _, when = rest.partition("/")
        return cls(target, int(call or 1), when or "before")

    def __str__(self) -> str:
        return f"{self.target}@{self.call}/{self.when}"


def die() -> None:
    """As if the power went; the log keeps where."""
    traceback.print_stack(limit=6)
    print(STRUCK, file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def tear(*args: Any) -> None:
    """Cut the end of the file that the arguments name."""
    file = next(arg for arg in args if isinstance(arg, Path | int))
    if isinstance(file, int):
        os.truncate(file, os.fstat(file).st_size - 20)
    else:
        os.truncate(file, file.stat().st_size // 2)


def patch(target: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace the function that ``module:attribute`` names by ``wrap`` of it."""
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *owners, name = path.split(".")
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, wrap(getattr(owner, name)))


def arm(point: Point) -> None:
    """Let this process die at ``point``."""
    calls = 0

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == point.call and point.when == "before":
                die()
            result = real(*args, **named)
            if calls == point.call:
                if point.when == "torn":
                    tear(*args)
                die()
            return result

        return run

    patch(point.target, wrap)


def arm_from_environment() -> None:
    """For processes that others start: the point in the variable, if there is one."""
    if VARIABLE in os.environ:
        arm(Point.parse(os.environ[VARIABLE]))
