"""Where runs and versions are kept: which MLflow store, whether it can be used, made once."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from lerenet.errors import LerenetError, TrackingError
from lerenet.files import shown
from lerenet.layout import CHECKPOINTS, PARAMS, RESTORING
from lerenet.tracking.moved import ARTIFACTS, follow

log = logging.getLogger(__name__)

VARIABLE = "MLFLOW_TRACKING_URI"
BACKEND = "MLFLOW_BACKEND_STORE_URI"  # of MLflow's own: the database of its server
REMEDY = (
    f"unset {VARIABLE} to use sqlite:///mlflow.db in the project's folder, "
    "or set it to http://host:port of an MLflow server"
)
LOCKED = "another program holds the store; wait for it, or see which: `fuser mlflow.db`"
DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
KIND = {"mlflow.experimentKind": "custom_model_development"}  # of trained models, not of traces
PROBE_SECONDS = 3.0
LOCK_SECONDS = 120.0


def quiet() -> None:
    """Set MLflow's switches for this process: telemetry off, no pickles, short waits for a server."""
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for noisy in ("mlflow.store.db.utils", "mlflow.tracking", "mlflow.pyfunc", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, or the sqlite file ``mlflow.db`` in the project's (current) folder.

    Raises:
        TrackingError: neither: the variable is not set, and the current folder is no project's, or only half restored.
    """
    if given := os.environ.get(VARIABLE, "").strip():
        return given
    require_project()
    return own_uri()


def own_uri() -> str:
    """The address of ``mlflow.db`` in the current folder."""
    path = Path.cwd() / "mlflow.db"
    quoted = set("%?#") & set(str(path))  # an address of sqlite has no way to quote them
    return f"sqlite:///{path.name if quoted else path}"


def backend_uri() -> str:
    """The address of the database behind the project's own server: ``MLFLOW_BACKEND_STORE_URI``, or `own_uri`."""
    return os.environ.get(BACKEND) or own_uri()


def require_project() -> None:
    """Refuse what reads a project's store or ledger outside of one, where it would begin an empty one.

    Raises:
        TrackingError: the current folder holds no params.yaml, and no store is named; or a restore was cut short here.
    """
    require_restored()
    if not PARAMS.is_file() and not os.environ.get(VARIABLE, "").strip():
        raise TrackingError(
            f"{shown(Path.cwd())}: not a project's folder (no {PARAMS})",
            f"cd to the project, or set {VARIABLE}",
        )


def require_restored() -> None:
    """Refuse a project that is only half there.

    Raises:
        TrackingError: `lerenet restore` was cut short in the current folder.
    """
    if RESTORING.is_file():
        what = f"{shown(Path.cwd())}: `lerenet restore` was cut short here"
        raise TrackingError(what, "repeat it with the same file")


def redacted(uri: str) -> str:
    """``uri`` without what could be a user name, a password or a token: no user part, no query.

    A password may itself hold ``@``, ``/``, ``?`` or ``#`` where somebody forgot to quote it; when it
    can't be told from a host, nothing but the scheme is shown.
    """
    scheme, mark, rest = uri.partition("://")
    if not mark:
        scheme, rest = "", uri
    place, _, query = rest.partition("?") if "?" in rest else rest.partition("#")
    if scheme.startswith("sqlite") and place.startswith("/"):
        return scheme + mark + place  # a file: no user, and @ may be in its name
    if "@" in query:
        return f"{scheme}{mark}(hidden)"
    return scheme + mark + place.rpartition("@")[2].partition("#")[0]


def scrubbed(text: str, uri: str) -> str:
    """``text`` of somebody's error with ``uri``, and its user part alone, made `redacted`."""
    text = text.replace(uri, redacted(uri)).replace(uri.rstrip("/"), redacted(uri.rstrip("/")))
    with suppress(ValueError):
        parts = urlsplit(uri)
        secret = parts.password or ""
        for part in (parts.netloc.rpartition("@")[0], parts.query, secret, unquote(secret)):
            text = text.replace(part, "(hidden)") if part else text
    return text


def is_locked(error: Exception) -> bool:
    """Whether another program held the store."""
    return "is locked" in str(error)


@contextmanager
def scrubbing() -> Iterator[None]:
    """Tell an error of MLflow's without the store's password, which its text holds; also a decorator.

    Raises:
        TrackingError: in place of an `MlflowException`, or of a database that another program holds.
    """
    try:
        yield
    except LerenetError:
        raise
    except Exception as error:
        from mlflow.exceptions import MlflowException

        if is_locked(error):
            raise TrackingError(f"{redacted(tracking_uri())} is locked", LOCKED) from None
        if not isinstance(error, MlflowException):
            raise
        raise TrackingError(f"MLflow: {scrubbed(str(error.message), tracking_uri())}", REMEDY) from None


def check_uri(uri: str) -> None:
    """Refuse a store that can never work, before any work starts.

    Raises:
        TrackingError: a plain folder, an unknown scheme, a URI without a host, a port that is no
            number, or an sqlite file that can't be opened or written; the message names the variable.
    """
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:  # its text holds what stands where the port should
        raise TrackingError(f"{VARIABLE}={redacted(uri)}: host and port can't be read", REMEDY) from None
    scheme = parts.scheme.partition("+")[0]
    if scheme == "sqlite":
        return _check_sqlite(uri)
    if scheme in ("", "file"):
        raise TrackingError(
            f"{VARIABLE}={redacted(uri)}: a folder of runs is not supported by MLflow 3", REMEDY
        )
    if scheme not in ("http", "https", *DATABASES):
        raise TrackingError(f"{VARIABLE}={redacted(uri)}: unknown scheme", REMEDY)
    if not host:
        raise TrackingError(f"{VARIABLE}={redacted(uri)}: no host in it", REMEDY)


def sqlite_path(uri: str) -> Path | None:
    """The file of an sqlite URI, or None for another store."""
    if not uri.startswith("sqlite"):
        return None
    return Path(unquote(urlsplit(uri).path)[1:] or ":memory:")


def _check_sqlite(uri: str) -> None:
    path = sqlite_path(uri)
    if path is None or str(path) == ":memory:" or "://" not in uri:
        raise TrackingError(
            f"{VARIABLE}={redacted(uri)}: names no file", f"write sqlite:///mlflow.db, or {REMEDY}"
        )
    place = path if path.exists() else path.parent
    if path.is_dir():
        raise TrackingError(f"{VARIABLE}={redacted(uri)}: {path} is a folder", REMEDY)
    if not place.exists():
        raise TrackingError(
            f"{VARIABLE}={redacted(uri)}: the folder {place} does not exist", f"make it, or {REMEDY}"
        )
    if not (os.access(place, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise TrackingError(f"{VARIABLE}={redacted(uri)}: {place} can't be written", REMEDY)
    if path.exists() and path.stat().st_size:
        with path.open("rb") as handle:
            if handle.read(15) != b"SQLite format 3":
                raise TrackingError(f"{VARIABLE}={redacted(uri)}: {path} is no sqlite database", REMEDY)


def reachable(uri: str) -> bool:
    """Whether something answers at the host and port of ``uri`` (a local file always does)."""
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme == "sqlite":
        return True
    port = parts.port or {"http": 80, "https": 443, **DATABASES}[scheme]
    try:
        socket.create_connection((parts.hostname or "", port), timeout=PROBE_SECONDS).close()
    except OSError:
        return False
    return True


@contextmanager
def store_lock(uri: str) -> Iterator[None]:
    """Hold the project's lock while an sqlite store is written; a server needs none."""
    path = sqlite_path(uri)
    if path is None:
        yield
        return
    with FileLock(_lock_file(path), timeout=LOCK_SECONDS, is_singleton=True):  # may nest
        yield


def _lock_file(path: Path) -> Path:
    folder = path.parent / CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{path.name}.lock"


def connect(experiment: str, uri: str | None = None) -> tuple[Any, str]:
    """An `MlflowClient` and the id of ``experiment``, made once under a lock when missing.

    Raises:
        TrackingError: when the store can't be used.
        mlflow.exceptions.MlflowException: when a server answers with an error.
    """
    uri = uri or tracking_uri()
    check_uri(uri)
    load()
    with store_lock(uri):
        client = client_of(uri)
        entry = client.get_experiment_by_name(experiment)
        if entry is None:
            made = client.create_experiment(experiment, artifact_location=_artifacts(uri), tags=KIND)
            return client, made
        if entry.lifecycle_stage == "deleted":
            client.restore_experiment(entry.experiment_id)
        for name in KIND.keys() - entry.tags.keys():
            client.set_experiment_tag(entry.experiment_id, name, KIND[name])
        return client, str(entry.experiment_id)


def load() -> Any:
    """Import MLflow (two seconds) with our switches set, and give its `MlflowClient`."""
    quiet()
    from mlflow.tracking import MlflowClient

    return MlflowClient


def client_of(uri: str | None = None) -> Any:
    """An `MlflowClient` of the store, which is also the registry; what was moved is found again."""
    uri = uri or tracking_uri()
    path = sqlite_path(uri)
    if path is not None:
        _follow_once(uri, path.resolve())
    return load()(tracking_uri=uri, registry_uri=uri)


@cache
def _follow_once(uri: str, _there: Path) -> None:
    follow_moved(uri)


def follow_moved(uri: str) -> None:
    """Find the artifacts of an sqlite store again where its project was moved (`moved.follow`), under its lock.

    Raises:
        TrackingError: another program holds the store.
    """
    path = sqlite_path(uri)
    if path is not None and path.is_file():
        with scrubbing(), store_lock(uri):
            follow(path)


def _artifacts(uri: str) -> str | None:
    path = sqlite_path(uri)
    return None if path is None else (path.parent.resolve() / ARTIFACTS).as_uri()
