"""A backup back in a folder: checked and made ready in a hidden folder, then moved into place, step by step."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

from lerenet import layout
from lerenet.errors import TrackingError
from lerenet.files import atomic_dir, read_json, sha256_file, shown
from lerenet.registry.backup import BESIDE, MANIFEST, STORE
from lerenet.tracking.moved import ARTIFACTS, follow

REFUSED = (STORE, layout.LEDGER.name, ARTIFACTS)  # a registry of the folder's own
RESTORED = layout.RESTORING.parent  # what is checked and not yet in its place


def restore(archive: Path) -> int:
    """Unpack a backup into the current folder; how many files there were.

    The addresses of artifacts in the store become those of this folder. A killed one is finished by the same call;
    until then `tracking.store` refuses the project.

    Raises:
        TrackingError: the file is no backup or was changed, the folder has a registry of its own, or another backup
            was half restored here; nothing is written then.
    """
    digests = _manifest(archive)
    begun = layout.RESTORING.is_file()
    if not begun:
        shutil.rmtree(RESTORED, ignore_errors=True)  # a killed one that had all in place
    if begun and read_json(layout.RESTORING) != digests:
        what = f"another backup than {shown(archive)} was being restored here"
        raise TrackingError(what, "repeat that one, or restore into an empty folder")
    for name in REFUSED:
        if Path(name).exists() and (not begun or (RESTORED / name).exists()):
            raise TrackingError(f"{name} is here already", "restore into an empty folder, or move it away")
    if not begun:
        with atomic_dir(RESTORED) as folder:
            _unpack(archive, folder, digests)
            follow(folder / STORE, home=Path())
    for name in (*BESIDE, ARTIFACTS, STORE):  # the store last: without it there is no registry
        if (RESTORED / name).exists() and not Path(name).exists():
            (RESTORED / name).rename(name)
    layout.RESTORING.unlink()  # from here on it is a project
    shutil.rmtree(RESTORED)
    return len(digests)


def _manifest(path: Path) -> dict[str, Any]:
    """Names and digests of a backup's files."""
    try:
        with tarfile.open(path) as archive:
            handle = archive.extractfile(MANIFEST)
            digests = json.load(handle) if handle else None
    except KeyError:
        digests = None
    except (tarfile.TarError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(digests, dict) or STORE not in digests:
        raise _not_whole(path, "it holds no list of its files")
    return digests


def _unpack(path: Path, folder: Path, digests: dict[str, Any]) -> None:
    """Unpack a backup whose every file must be listed, there, and as it was."""
    try:
        with tarfile.open(path) as archive:
            names = {name for entry in archive if (name := _unpacked(archive, entry, folder))} - {MANIFEST}
    except (tarfile.TarError, OSError) as error:
        raise _unreadable(path, error) from error
    wrong = sorted(name for name in names if sha256_file(folder / name) != digests.get(name))
    if odd := [*wrong, *sorted(set(digests) - names)]:
        raise _not_whole(path, f"{odd[0]} differs or is missing")
    (folder / ARTIFACTS).mkdir(exist_ok=True)  # also where there were none: new ones come here


def _unpacked(archive: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> str:
    """Unpack a file below a folder, and nowhere else; its name, empty for what is no file."""
    target = folder / entry.name
    if not entry.isfile() or not target.resolve().is_relative_to(folder.resolve()):
        return ""
    source = archive.extractfile(entry)
    assert source is not None  # of a file there is something to read
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("wb") as handle:
        shutil.copyfileobj(source, handle)
    return entry.name


def _unreadable(path: Path, error: Exception) -> TrackingError:
    return TrackingError(f"{shown(path)}: can't be read: {error}", "give a file that `lerenet backup` wrote")


def _not_whole(path: Path, why: str) -> TrackingError:
    return TrackingError(f"{shown(path)}: no whole backup: {why}", "take another one")
