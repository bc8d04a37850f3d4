"""What a stage used must be what DVC records.

DVC hashes data, settings and code once a stage's command has ended. What was changed meanwhile would stand in
``dvc.lock`` as if it had been used, and would never be run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lerenet import layout
from lerenet.errors import DataError
from lerenet.files import signature


@contextmanager
def unchanged_inputs() -> Iterator[None]:
    """Hold a command that DVC runs to what it began with; other commands are let alone.

    Raises:
        DataError: data, settings or code changed while it ran; DVC records nothing of it then.
    """
    if "DVC_STAGE" not in os.environ:
        yield
        return
    before = _inputs()
    try:
        yield
    except SystemExit as done:  # the command line's way to end
        if done.code:
            raise
    after = _inputs()
    if changed := [name for name in before if before[name] != after[name]]:
        raise DataError(
            f"{', '.join(changed)}: changed while stage {os.environ['DVC_STAGE']} ran; its outputs are not recorded",
            "run `dvc repro` again when nothing writes there",
        )


def _inputs() -> dict[str, str]:
    settings = layout.PARAMS.read_text(encoding="utf-8", errors="replace") if layout.PARAMS.exists() else ""
    package = Path(__file__).parents[1]
    return {
        f"{layout.DATA}/": signature(layout.DATA),
        str(layout.PARAMS): settings,
        f"{package.name}/": signature(package, ".py"),
    }
