"""Progress for people: a bar with the time left on a terminal, one line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY = 15.0  # seconds, when standard error is no terminal


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[..., None]]:
    """Yield ``tick(done=1, note="")``; it advances the bar and shows ``note`` beside it."""
    if sys.stderr.isatty():
        yield from _bar(title, total)
    else:
        yield from _lines(title, total)


@contextmanager
def silent(title: str, total: int) -> Iterator[Callable[..., None]]:
    """As `progress`, and shows nothing."""
    yield lambda done=1, note="": None


def _bar(title: str, total: int) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, note="")

        def tick(done: int = 1, note: str | None = None) -> None:
            bar.update(task, advance=done, **({} if note is None else {"note": note}))  # type: ignore[arg-type]

        yield tick


def _lines(title: str, total: int) -> Iterator[Callable[..., None]]:
    started = shown = time.monotonic()
    at, last = 0, ""

    def tick(done: int = 1, note: str | None = None) -> None:
        nonlocal at, shown, last
        at, last, now = at + done, note or last, time.monotonic()
        if now - shown >= LINE_EVERY or at >= total > at - done:
            shown, left = now, (now - started) * (total - at) / max(at, 1)
            print(f"{title}: {at}/{total}, {left:.0f} s left {last}".rstrip(), file=sys.stderr, flush=True)

    yield tick
