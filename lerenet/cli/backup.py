"""``lerenet backup`` and ``lerenet restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def backup_command(
    out: Annotated[Path, typer.Argument(help="The file, .tar; it is replaced whole.")],
) -> None:
    """Write registry, ledger, settings and artifacts to one file; no promotion happens meanwhile."""
    from lerenet.progress import progress
    from lerenet.registry.backup import backup, count

    with progress("backup", count()) as tick:
        files = backup(out, tick)
    typer.echo(f"written: {out}, {files} files, {out.stat().st_size / 1e6:.0f} MB")


def restore_command(
    archive: Annotated[Path, typer.Argument(help="A file that `lerenet backup` wrote.", exists=True)],
) -> None:
    """Unpack a backup into this folder, which has no registry of its own; every file is checked first.

    Raises:
        TrackingError: as `restore`; or all is in place, and the champion is not as it should be.
    """
    from lerenet.cli.champion import examined
    from lerenet.errors import TrackingError
    from lerenet.registry.restore import restore

    files = restore(archive)
    state, found, remedy = examined("sqlite:///mlflow.db")
    if state == "problem":
        raise TrackingError(
            f"{files} files restored, as they were backed up; but the champion: {found}", remedy
        )
    typer.echo(f"restored: {files} files; champion: {found}; `lerenet doctor` looks at the rest")
