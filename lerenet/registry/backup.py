"""Registry, ledger and artifacts as one file: of one moment, with a digest of every file as it is in there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from shutil import copyfile
from typing import IO

from lerenet import layout
from lerenet.errors import TrackingError
from lerenet.files import atomic_path, shown
from lerenet.registry.needed import Needed, needed
from lerenet.registry.promote import promotion_lock
from lerenet.tracking import store
from lerenet.tracking.moved import ARTIFACTS, WAIT

STORE, MANIFEST = "mlflow.db", layout.RESTORING.name
BESIDE = (layout.LEDGER.name, "params.yaml", "dvc.yaml", "dvc.lock", "data.dvc")  # as far as there
IN_MEMORY = 1 << 26  # bytes of a file; a larger one goes by a temporary file
Tick = Callable[[int], None]


def backup(out: Path, tick: Tick = lambda done: None) -> int:
    """Write store, ledger, settings and artifacts of the project to a tar file; how many files there are.

    Store, ledger and settings are copied at one moment, while nobody writes the store or promotes. The artifacts are
    read after it, and runs may go on meanwhile: a file that grows is in the backup as it was when it was read.

    Args:
        out: the file, which is replaced whole.
        tick: called with 1 a file.

    Raises:
        TrackingError: the store is a server's or held by another program; it names files that lie elsewhere, or are
            gone. The file that stood at ``out`` is unchanged then.
    """
    path = _local()
    with tempfile.TemporaryDirectory(prefix="lerenet-") as name:
        folder = Path(name)
        files = _copy(path, folder)
        wanted = needed(folder / STORE, path.parent / ARTIFACTS)
        digests: dict[str, str] = {}
        with atomic_path(out) as temporary, tarfile.open(temporary, "w") as archive:
            for name, file in files:
                digest = _archived(archive, name, file, wanted)
                digests |= {name: digest} if digest else {}
                tick(1)
            _add(archive, MANIFEST, io.BytesIO(json.dumps(digests, indent=1, sort_keys=True).encode()))
    return len(digests)


def count() -> int:
    """How many files a backup will hold, as far as none comes or goes."""
    project = _local().parent
    return sum(1 for _ in _files(project, project))


def _local() -> Path:
    uri = store.tracking_uri()
    path = store.sqlite_path(uri)
    if path is None:
        what = f"{store.redacted(uri)}: a server's store"
        raise TrackingError(
            what,
            "unset MLFLOW_TRACKING_URI where it serves this project's own store; "
            "else use its database's own backup, and the artifacts'",
        )
    if not path.is_file():
        raise TrackingError(f"{shown(path)}: no such store", "nothing was registered yet: `dvc repro` first")
    return path.resolve()


def _copy(path: Path, folder: Path) -> list[tuple[str, Path]]:
    """Copy store, ledger and settings as they are at one moment; name and place of these and of the artifacts then."""
    uri = store.tracking_uri()
    with promotion_lock(), store.store_lock(uri), store.scrubbing():
        store.follow_moved(uri)
        with (
            closing(sqlite3.connect(path, timeout=WAIT)) as source,
            closing(sqlite3.connect(folder / STORE)) as target,
        ):
            source.backup(target)
        for name in BESIDE:
            if (path.parent / name).is_file():
                copyfile(path.parent / name, folder / name)
        return list(_files(folder, path.parent))


def _files(beside: Path, project: Path) -> Iterator[tuple[str, Path]]:
    yield from ((name, beside / name) for name in (STORE, *BESIDE) if (beside / name).is_file())
    for root, folders, files in os.walk(project / ARTIFACTS):
        folders.sort()
        for file in (Path(root, name) for name in [*folders, *sorted(files)]):
            if file.is_symlink():
                raise TrackingError(
                    f"{shown(file)}: a link", "put what it leads to in its place, then repeat"
                )
            if not file.is_dir():
                yield file.relative_to(project).as_posix(), file


def _archived(archive: tarfile.TarFile, name: str, file: Path, wanted: Needed) -> str:
    """SHA-256 of a file as it is in the archive now; empty for one that went away and that nobody needs."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as held:
        digest = hashlib.sha256()
        try:
            with file.open("rb") as handle:
                while block := handle.read(1 << 20):
                    digest.update(block)
                    held.write(block)
        except FileNotFoundError:
            if owner := wanted.by(file):
                what = f"{shown(file)} went away while it was copied, and {owner} needs it"
                raise TrackingError(what, "put it back, or repeat where it was deleted on purpose") from None
            return ""
        _add(archive, name, held)
    return digest.hexdigest()


def _add(archive: tarfile.TarFile, name: str, data: IO[bytes]) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = data.seek(0, io.SEEK_END), 0o600
    data.seek(0)
    archive.addfile(entry, data)
