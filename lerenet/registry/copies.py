"""A version's files on this machine, each checked against the digest that was registered."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from lerenet.errors import TrackingError
from lerenet.files import atomic_dir, sha256_file
from lerenet.layout import CACHE
from lerenet.registry.registered import PACKAGE, Version
from lerenet.tracking import moved, store


def verified(version: Version) -> Path:
    """Package of a version, every file of it checked against the digests in its tags.

    A download that is not right is fetched once more.

    Raises:
        TrackingError: a file that is not the registered one.
    """
    folder = local(version)
    wrong = _wrong(version, folder)
    if wrong and CACHE in folder.parents:
        shutil.rmtree(_download(version))
        folder = local(version)
        wrong = _wrong(version, folder)
    if wrong:
        how = "is not the file that was registered (sha256 differs)" if wrong.is_file() else "is missing"
        raise TrackingError(
            f"version {version.number}: {wrong} {how}",
            "restore the store's artifacts from a backup (`lerenet restore`), or roll back: `lerenet rollback`",
        )
    return folder / PACKAGE


def carries_code(version: Version) -> bool:
    """Whether MLflow can serve the version without the project."""
    return (local(version) / "code").is_dir()


def _wrong(version: Version, folder: Path) -> Path | None:
    """The first file that is not the registered one, is gone, or was put into the package afterwards.

    Raises:
        TrackingError: the version carries no digests.
    """
    checked = list(check_files(version, folder))
    if not any(digest for _, digest, _ in checked):
        raise TrackingError(f"version {version.number} carries no digests", "register it again")
    return next((folder / name for name, digest, there in checked if there != digest), None)


def check_files(version: Version, folder: Path) -> Iterator[tuple[str, str, str | None]]:
    """Name of each file of a version, its registered SHA-256, and that in ``folder`` (None: it is gone).

    For a file that was put into the package afterwards the registered one is empty. (MLflow itself puts files beside
    the package.)
    """
    digests = json.loads(version.tags.get("sha256", "{}"))
    packed = sorted(f"{PACKAGE}/{name}" for name in files_of(folder / PACKAGE))
    for name, digest in (dict.fromkeys(packed, "") | digests).items():
        path = folder / name
        yield name, digest, sha256_file(path) if path.is_file() else None


@store.scrubbing()
def local(version: Version) -> Path:
    """Folder of a version's files, downloaded where the store is a server's; `verified` checks them, too."""
    if (here := moved.local(version.source)) is not None:
        return here
    kept = _download(version)
    if not kept.exists():
        import mlflow

        with atomic_dir(kept) as temporary:
            mlflow.artifacts.download_artifacts(
                artifact_uri=version.source, dst_path=str(temporary), tracking_uri=store.tracking_uri()
            )
    os.utime(kept)  # when it was used last
    return next((path.parent for path in kept.rglob("MLmodel")), kept)


def _download(version: Version) -> Path:
    return CACHE / "registry" / f"{version.number}-{version.tags.get('weights_sha256', '')[:12]}"


def files_of(folder: Path) -> set[str]:
    """Every file below ``folder``, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
