"""Registry, ledger and artifacts as one file, and back: checked by digests on both ways, whole or not at all."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from lerenet import layout
from lerenet.errors import TrackingError
from lerenet.files import atomic_dir, atomic_path, read_json, sha256_file, shown
from lerenet.registry.promote import promotion_lock
from lerenet.tracking import store
from lerenet.tracking.moved import ARTIFACTS, follow

STORE, MANIFEST = "mlflow.db", "manifest.json"
BESIDE = (layout.LEDGER.name, "params.yaml", "dvc.yaml", "dvc.lock", "data.dvc")  # as far as there
RESTORED = Path(".restored")  # what is unpacked and not yet in its place
Tick = Callable[[int], None]


def backup(out: Path, tick: Tick = lambda done: None) -> int:
    """Write store, ledger, settings and artifacts of the project to a tar file; how many files there are.

    No promotion happens meanwhile, so that ledger, alias and files are of one moment.

    Args:
        out: the file, which is replaced whole.
        tick: called with 1 a file.

    Raises:
        TrackingError: the store is a server's.
    """
    path = _local()
    with (
        promotion_lock(),
        store.store_lock(store.tracking_uri()),
        atomic_path(out) as temporary,
        tarfile.open(temporary, "w") as archive,
        tempfile.TemporaryDirectory(prefix="lerenet-") as folder,
    ):
        copy = Path(folder) / STORE
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        digests = {}
        for name, file in [(STORE, copy), *_files(path.parent)]:
            archive.add(file, name, recursive=False)
            digests[name] = sha256_file(file)
            tick(1)
        _add(archive, MANIFEST, json.dumps(digests, indent=1, sort_keys=True).encode())
    return len(digests)


def count() -> int:
    """How many files a backup will hold."""
    return 1 + sum(1 for _ in _files(_local().parent))


def restore(archive: Path, tick: Tick = lambda done: None) -> int:
    """Unpack a backup into the current folder; how many files there were.

    The artifacts' addresses in the store become those of this folder.

    Raises:
        TrackingError: the file is no backup or was changed, or the folder has a registry of its own; nothing is
            written then.
    """
    for name in (STORE, layout.LEDGER.name, ARTIFACTS):
        if Path(name).exists():
            raise TrackingError(f"{name} is here already", "restore into an empty folder, or move it away")
    with atomic_dir(RESTORED) as folder:
        names = _unpacked(archive, folder)
        digests = read_json(folder / MANIFEST) if MANIFEST in names else {}
        wrong = sorted(name for name in names - {MANIFEST} if sha256_file(folder / name) != digests.get(name))
        lost = sorted(set(digests) - names)
        if not digests or wrong or lost:
            what = (
                f"{(wrong or lost)[0]} differs or is missing" if digests else "it holds no list of its files"
            )
            raise TrackingError(f"{shown(archive)}: no whole backup: {what}", "take another one")
    for name in (*BESIDE, ARTIFACTS, STORE):  # the store last: without it there is no registry
        if (RESTORED / name).exists() and not Path(name).exists():
            (RESTORED / name).rename(name)
            tick(1)
    shutil.rmtree(RESTORED, ignore_errors=True)
    follow(Path(STORE), home=Path())
    return len(digests)


def _local() -> Path:
    path = store.sqlite_path(store.tracking_uri())
    if path is None:
        address = store.redacted(store.tracking_uri())
        raise TrackingError(
            f"{address}: a server's store", "use its database's own backup, and the artifacts'"
        )
    return path.resolve()


def _files(project: Path) -> Iterator[tuple[str, Path]]:
    yield from ((name, project / name) for name in BESIDE if (project / name).is_file())
    for file in sorted((project / ARTIFACTS).rglob("*")):
        if file.is_file() and not file.is_symlink():
            yield file.relative_to(project).as_posix(), file


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o600
    archive.addfile(entry, io.BytesIO(data))


def _unpacked(path: Path, folder: Path) -> set[str]:
    try:
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
            return {entry.name for entry in archive.getmembers() if entry.isfile()}
    except (tarfile.TarError, OSError) as error:
        said = f"{shown(path)}: can't be read: {error}"
        raise TrackingError(said, "give a file that `lerenet backup` wrote") from error
