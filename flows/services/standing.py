"""Which services stand, where they listen, and how one sees that they answer."""

from __future__ import annotations

import hmac
import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from flows import HEARTBEAT_SECONDS
from flows.services.access import CLIENT, SERVER, auth_string, header
from flows.services.processes import FOLDER, Service, ServiceError
from lerenet.tracking.store import BACKEND

HOST = "127.0.0.1"
POOL = "lerenet"  # as in prefect.yaml
WATCH_SECONDS = 5
KEPT_SECONDS = 30 * 24 * 60 * 60  # that Prefect remembers a run which has ended


def port(name: str, default: int) -> int:
    """The port that ``LERENET_<NAME>_PORT`` names, or ``default``.

    Raises:
        ServiceError: it is no port.
    """
    variable = f"LERENET_{name}_PORT"
    text = os.environ.get(variable, "").strip() or str(default)
    if not (text.isdigit() and 0 < int(text) < 65536):
        raise ServiceError(f"{variable}={text!r} is no port", "give a number from 1 to 65535, or unset it")
    return int(text)


def environment() -> dict[str, str]:
    """What the services and their flow runs see beside the caller's variables.

    Databases and artifact root are the caller's when he names them (docs/operations.md).
    """
    here = Path.cwd()
    databases = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
    word = auth_string()
    own = {} if any(map(os.environ.get, databases)) else {databases[0]: _sqlite(here)}
    return {
        **own,
        SERVER: word,
        CLIENT: word,
        "PREFECT_API_URL": f"http://{HOST}:{port('PREFECT', 4200)}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port('PREFECT', 4200)}",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(KEPT_SECONDS),
        "PREFECT_HOME": str(here / FOLDER / "prefect"),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "MLFLOW_TRACKING_URI": f"http://{HOST}:{port('MLFLOW', 5000)}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "LERENET_PROJECT": str(here),
    }


def _sqlite(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / FOLDER / 'prefect.db'}"


def services() -> tuple[Service, ...]:
    """In the order of their start: Prefect server, MLflow server, worker, watcher, the inspector's page."""
    common = environment()
    api, mlflow = common["PREFECT_API_URL"], common["MLFLOW_TRACKING_URI"]
    run = (sys.executable, "-m")
    prefect_port, mlflow_port, page_port = port("PREFECT", 4200), port("MLFLOW", 5000), port("PAGE", 8088)
    page, token = f"http://{HOST}:{page_port}", page_token(common[SERVER])
    return (
        Service(
            "prefect",
            (*run, "prefect", "server", "start", "--host", HOST, "--port", str(prefect_port)),
            lambda _started: answers(f"{api}/health"), common, api.removesuffix("/api"), prefect_port,
        ),
        Service(
            "mlflow",
            (*run, "mlflow", "server", "--host", HOST, "--port", str(mlflow_port), "--workers", "1",
             "--no-serve-artifacts", *_mlflow_stores(os.environ, Path.cwd())),
            lambda _started: answers(f"{mlflow}/health"), common, mlflow, mlflow_port,
        ),
        Service(
            "worker",
            (*run, "prefect", "worker", "start", "--pool", POOL, "--name", POOL, "--type", "process"),
            lambda started: worker_online(api, started), common,
        ),
        Service(
            "watch",
            (*run, "flows.watch", "--every", str(WATCH_SECONDS)),
            looked, common,
        ),
        Service(
            "page",
            (*run, "lerenet", "ui", "--host", HOST, "--port", str(page_port)),
            lambda _started: answers(f"{page}/health"), {**common, "LERENET_PAGE_TOKEN": token},
            f"{page}/?token={token}", page_port,
        ),
    )  # fmt: skip


def page_token(word: str) -> str:
    """What lets an inspector in: made of the word that opens Prefect's API, which can't be had from it."""
    return hmac.new(word.encode(), b"page", "sha256").hexdigest()[:32]


def _mlflow_stores(given: Mapping[str, str], here: Path) -> list[str]:
    """Local stores, the ones that ``dvc repro`` without a server uses, unless MLflow's variables name others."""
    words = []
    if not given.get(BACKEND):
        words += ["--backend-store-uri", f"sqlite:///{here / 'mlflow.db'}"]
    if not given.get("MLFLOW_DEFAULT_ARTIFACT_ROOT"):
        words += ["--default-artifact-root", (here / "mlartifacts").as_uri()]
    return words


# -- health ---------------------------------------------------------------------------------------


def answers(url: str) -> bool:
    """Whether a GET of ``url`` is answered with 200."""
    try:
        with urlopen(url, timeout=5) as reply:
            return int(reply.status) == 200
    except (URLError, OSError):
        return False


def worker_online(api: str, started: float) -> bool:
    """Whether the server has heard from the pool's worker since ``started``."""
    head = {"Content-Type": "application/json", **header(auth_string())}
    body = Request(f"{api}/work_pools/{POOL}/workers/filter", b"{}", head, method="POST")
    try:
        with urlopen(body, timeout=5) as reply:
            workers = json.load(reply)
    except (URLError, OSError, ValueError):
        return False
    return any(
        worker["status"] == "ONLINE"
        and datetime.fromisoformat(worker["last_heartbeat_time"]).timestamp() >= started
        for worker in workers
    )


def looked(started: float) -> bool:
    """Whether the watcher has looked at the data since ``started``, and not long ago."""
    try:
        last = (FOLDER / "watch.beat").stat().st_mtime
    except FileNotFoundError:
        return False
    return last >= started and time.time() - last < 24 * WATCH_SECONDS
