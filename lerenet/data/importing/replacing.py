"""What an import or the sample may take the place of: only what one of them wrote before."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from lerenet.data.dataset import DATASET, SOURCES, read_sources
from lerenet.data.images import SUFFIXES
from lerenet.data.listing import LITTER
from lerenet.data.names import nfc
from lerenet.errors import DataError
from lerenet.files import TEMPORARY, shown

SHOWN = 20


def check_replaceable(data: Path, remedy: str, classes: Collection[str] | None = None) -> None:
    """Refuse when ``data`` holds anything but its two tables, images that sources.csv lists, and their masks.

    Args:
        data: the data folder; missing or empty is fine.
        remedy: what to do.
        classes: only these classes are replaced; None: the whole folder.

    Raises:
        DataError: other files are there; it names the first 20.
    """
    if not data.exists():
        return
    if not data.is_dir():
        raise DataError(f"{shown(data)}: is a file, not a folder", "give another folder with --data")
    ours = set(_ours(data))
    foreign = [
        name
        for name in sorted(_everything(data))
        if nfc(name) not in ours and (classes is None or name.split("/")[0] in classes)
    ]
    if foreign:
        lines = "\n".join(f"  {shown(data / name)}" for name in foreign[:SHOWN])
        more = f"\n  and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        raise DataError(
            f"{shown(data)}: {len(foreign)} files there were not written by an import "
            f"({SOURCES} lists none of them), and would be lost:\n{lines}{more}",
            remedy,
        )


def _ours(data: Path) -> Iterator[str]:
    """Posix paths, in NFC, of what an import writes."""
    yield from (DATASET, SOURCES)
    for file in read_sources(data):
        path = PurePosixPath(file)
        yield file
        if path.parent.name == "Images":
            yield from (str(path.parent.parent / "GT" / f"{path.stem}{suffix}") for suffix in SUFFIXES)


def _everything(data: Path) -> Iterator[str]:
    """Posix paths of files and links below ``data``, hidden ones, too; without litter of systems."""
    for root, folders, files in os.walk(data, onerror=_unlisted):
        links = [name for name in folders if Path(root, name).is_symlink()]
        for name in (*files, *links):
            if not (name in LITTER or name.startswith(("._", ".DS_Store", TEMPORARY))):
                yield Path(root, name).relative_to(data).as_posix()


def _unlisted(error: OSError) -> None:
    raise DataError(f"{shown(error.filename)}: can't be listed: {error.strerror}", "mend the folder's rights")


def changing(data: Path) -> Path:
    """The folder, in the system's temporary one, whose lock whoever changes ``data`` holds, one after the other."""
    name = hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"lerenet-{os.getuid()}-{name}"


def check_source(path: Path, data: Path) -> None:
    """Refuse a source that is the data folder, lies in it or holds it: it would be replaced while it is read.

    Raises:
        DataError: one is in the other.
    """
    source, target = path.resolve(), data.resolve()
    if source == target or target in source.parents:
        raise DataError(
            f"{shown(path)}: is the data folder or lies in it, so it would be replaced while it is read",
            "move it somewhere else, or give another folder with --data",
        )
    if source in target.parents and data.is_dir() and any(data.iterdir()):
        raise DataError(
            f"{shown(path)}: holds the data folder {shown(data)}, which would be read as part of it",
            "move the source's images into a folder of their own, or give another folder with --data",
        )
