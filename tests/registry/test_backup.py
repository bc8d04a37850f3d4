"""A backup holds all that the store needs, as it was when it was read, or is refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from lerenet.errors import TrackingError
from lerenet.registry.backup import backup

RUN = "INSERT INTO runs (run_uuid, artifact_uri, lifecycle_stage) VALUES (?, ?, ?)"
VERSION = "INSERT INTO model_versions (name, version, source, current_stage) VALUES ('lerenet', ?, ?, ?)"
MODEL = (
    "INSERT INTO logged_models (model_id, experiment_id, name, artifact_location, creation_timestamp_ms, "
    "last_updated_timestamp_ms, status, lifecycle_stage) VALUES (?, 0, 'm', ?, 0, 0, 1, ?)"
)


def write(query: str, *values: Any) -> None:
    with closing(sqlite3.connect("mlflow.db")) as base, base:
        base.execute(query, values)


@pytest.fixture
def files(project: Path) -> tuple[Path, Path]:
    """A file of a run that logs, and one of a version."""
    run, version = project / "mlartifacts/1/run/artifacts/log.txt", project / "mlartifacts/1/models/m/weights"
    for file in (run, version):
        file.parent.mkdir(parents=True)
        file.write_text("as it was")
    write(RUN, "run", run.parent.as_uri(), "active")
    write(VERSION, 1, version.parent.as_uri(), "None")
    return run, version


def test_what_grows_while_it_is_copied_is_as_it_was_when_it_was_read(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tarfile.TarFile.addfile

    def grows(archive: tarfile.TarFile, *words: Any) -> None:
        real(archive, *words)
        with files[0].open("a") as handle:
            handle.write("more")

    monkeypatch.setattr(tarfile.TarFile, "addfile", grows)
    backup(tmp_path / "saved.tar")
    with tarfile.open(tmp_path / "saved.tar") as archive:
        digests = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
        found = {name: sha256(archive.extractfile(name).read()).hexdigest() for name in digests}  # type: ignore[union-attr]
    assert found == digests
    assert len(digests) == 4


def test_store_and_promotions_are_free_while_artifacts_are_read(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    def free(_done: int) -> None:
        for name in ("mlflow.db.lock", "promotion.lock"):
            with FileLock(f".checkpoints/{name}", timeout=0):
                pass

    backup(tmp_path / "saved.tar", free)


def test_a_file_that_goes_away_meanwhile_is_left_out_or_named(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tmp_path / "mlartifacts/1/gone/artifacts/log.txt"
    other.parent.mkdir(parents=True)
    other.touch()
    out = tmp_path / "saved.tar"
    assert backup(out, lambda _done: other.unlink(missing_ok=True)) == 4
    with tarfile.open(out) as archive:
        assert not [name for name in archive.getnames() if "gone" in name]
    before = out.read_bytes()
    with pytest.raises(TrackingError, match=r"weights went away .* version 1 of lerenet needs it"):
        backup(out, lambda _done: files[1].unlink(missing_ok=True))
    assert out.read_bytes() == before


@pytest.mark.parametrize("remote", ["s3://bucket/x", "mlflow-artifacts:/x", "file"])
@pytest.mark.parametrize("query", [RUN, MODEL, VERSION], ids=["run", "model", "version"])
def test_what_lies_elsewhere_is_named_and_no_backup_is_written(
    project: Path, tmp_path_factory: pytest.TempPathFactory, query: str, remote: str
) -> None:
    place = tmp_path_factory.mktemp("elsewhere").as_uri() if remote == "file" else remote
    write(query, 7, place, "active")
    with pytest.raises(TrackingError, match=r" 7\b.*: .*" + place.removeprefix("file://")):
        backup(project / "saved.tar")
    assert not (project / "saved.tar").exists()
    write(f"DELETE FROM {query.split()[2]}")
    write(query, 7, place, "Deleted_Internal" if query == VERSION else "deleted")
    backup(project / "saved.tar")


def test_a_version_whose_files_are_gone_is_named_and_a_run_that_logged_nothing_is_not(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    write(RUN, "empty", (tmp_path / "mlartifacts/1/empty/artifacts").as_uri(), "active")
    backup(tmp_path / "saved.tar")
    shutil.rmtree(files[1].parent)
    with pytest.raises(TrackingError, match=r"version 1 of lerenet: .*, which is gone"):
        backup(tmp_path / "saved.tar")


def test_a_link_is_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    (files[0].parent / "link").symlink_to(tmp_path)
    with pytest.raises(TrackingError, match="link: a link"):
        backup(tmp_path / "saved.tar")


def test_a_project_that_was_moved_is_backed_up(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    for name in ("mlflow.db", "mlartifacts", "params.yaml"):
        Path(name).rename(new / name)
    monkeypatch.chdir(new)
    assert backup(new / "saved.tar") == 4


def test_a_server_has_its_own_backup(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    with pytest.raises(TrackingError, match="a server's store"):
        backup(project / "saved.tar")
