"""What may be overwritten: files of earlier calls that nobody has changed since, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lerenet.errors import DataError
from lerenet.files import sha256_file, shown
from lerenet.predict.earlier import ANY, Earlier
from lerenet.predict.names import MASK, OVERLAY
from lerenet.predict.queries import real
from lerenet.predict.results import CSV, JOURNAL, JSON

REMEDY = "move it away or choose another --out"


def check_overwrite(
    names: Sequence[str], out: Path, inputs: Sequence[Path], earlier: Earlier, beside: Sequence[str] = ()
) -> dict[str, str]:
    """Refuse a call that would write over an input, or over what no earlier call wrote or somebody changed since.

    Args:
        names: The output names of the queries.
        inputs: Queries, support images and their masks.
        beside: Other files of the call.

    Returns:
        SHA-256 of each mask that is there already, by its name.

    Raises:
        DataError: the message names the file.
    """
    given = {real(path) for path in inputs}
    standing = {}
    for name in (JOURNAL, JSON, CSV, *beside, *(name + end for name in names for end in (MASK, OVERLAY))):
        path = out / name
        if real(path) in given:
            raise DataError(
                f"{shown(path)}: would be overwritten, and it is an input", "choose another --out"
            )
        if path.is_file():
            standing[name] = _checked(path, earlier.files.get(name, set()))
        elif path.is_symlink() or path.exists():
            raise DataError(f"{shown(path)}: would be overwritten, and it is no file", REMEDY)
    return standing


def _checked(path: Path, digests: set[str]) -> str:
    """The file's SHA-256, where it may be overwritten; empty where it doesn't matter."""
    if not digests and path.stat().st_size:
        raise DataError(f"{shown(path)}: is there already, and no earlier call wrote it", REMEDY)
    if ANY in digests:
        return ANY
    digest = sha256_file(path)
    if digest not in digests and path.stat().st_size:  # an empty file is what a crash leaves
        raise DataError(f"{shown(path)}: was changed since an earlier call wrote it", REMEDY)
    return digest
