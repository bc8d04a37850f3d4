"""Many clients of one served model at once: ``python -m benchmarks.serving``.

In a project with a champion, or with ``--model``. MLflow's own server is started on a port of this machine in the
environment of this process. Every client asks one photo after another: half of them by examples (the version's input
example), half of them alone, for every class that the version knows.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer

from benchmarks.results import machine
from lerenet import layout
from lerenet.files import read_json, write_json
from lerenet.registry.copies import local
from lerenet.registry.registered import NAME
from lerenet.registry.versions import find
from lerenet.tracking.store import backend_uri

START_SECONDS, ANSWER_SECONDS = 180, 90


@dataclass
class Answers:
    """Seconds of each answer by kind of request, and what else than 200 came."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    took: float = 0.0  # seconds until the last answer

    def add(self, kind: str, began: float, status: str) -> None:
        """One answer."""
        with self.lock:
            if status == "200":
                self.seconds.setdefault(kind, []).append(time.monotonic() - began)
            else:
                self.errors[status] += 1


def bodies(package: Path, photos: int) -> list[tuple[str, bytes]]:
    """Kind and body of requests, in turns: the version's own example, and a photo of ``data/`` alone."""
    example = ("with examples", json.dumps(read_json(package / "serving_input_example.json")).encode())
    found = []
    for path in sorted(layout.DATA.glob("*/Images/*"))[:photos]:
        row = {"query": base64.b64encode(path.read_bytes()).decode("ascii")}
        found += [example, ("alone", json.dumps({"dataframe_records": [row]}).encode())]
    return found or [example]


def client(url: str, work: list[tuple[str, bytes]], until: float, answers: Answers) -> None:
    """Ask until the time is up."""
    with httpx.Client(timeout=ANSWER_SECONDS) as http:
        for kind, body in cycle(work):
            if time.monotonic() >= until:
                return
            began = time.monotonic()
            try:
                got = http.post(url, content=body, headers={"Content-Type": "application/json"})
                answers.add(kind, began, str(got.status_code))
            except httpx.HTTPError as error:
                answers.add(kind, began, type(error).__name__)


def resident_mib(session: int) -> float:
    """Resident memory of every process of a session (Linux)."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/statm"):
        with suppress(OSError):
            if os.getsid(int(status.parent.name)) == session:
                total += int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total / 2**20


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Requests, and the median and 95th percentile of their seconds."""
    middle, high = np.quantile(seconds, (0.5, 0.95))
    return {"requests": len(seconds), "p50": float(middle), "p95": float(high)}


def serve(model: str, port: int, workers: int, log: Path) -> subprocess.Popen[bytes]:
    """MLflow's server of the model, ready to answer.

    Raises:
        RuntimeError: it ended, or did not answer in time; its last lines are in the message.
    """
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local",
               "-p", str(port), "-w", str(workers)]  # fmt: skip
    environment = {**os.environ, "MLFLOW_TRACKING_URI": backend_uri()}
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    for _ in range(START_SECONDS):
        with suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/ping").status_code == httpx.codes.OK:
                return server
        if server.poll() is not None:
            break
        time.sleep(1)
    stop(server)
    raise RuntimeError("the server does not answer:\n" + "\n".join(log.read_text().splitlines()[-10:]))


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server with what it started."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def measure(url: str, work: list[tuple[str, bytes]], clients: int, seconds: float) -> Answers:
    """So many clients for so long, each beginning elsewhere in the work."""
    began = time.monotonic()
    answers = Answers()
    with ThreadPoolExecutor(clients) as pool:
        asked = [
            pool.submit(
                client, url, [*work[n % len(work) :], *work[: n % len(work)]], began + seconds, answers
            )
            for n in range(clients)
        ]
    for one in asked:
        one.result()
    answers.took = time.monotonic() - began
    return answers


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def main(
    version: Annotated[str, typer.Option(help="A number, or champion.")] = "champion",
    clients: Annotated[int, typer.Option(min=1)] = 50,
    seconds: Annotated[float, typer.Option(min=1, max=600)] = 60,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the server.")] = 1,
    out: Annotated[Path, typer.Option(help="JSON.")] = Path("artifacts/benchmarks/serving.json"),
) -> None:
    """Measure the answers of a served version under load."""
    item = find(version)
    port = free_port()
    out.parent.mkdir(parents=True, exist_ok=True)
    work = bodies(local(item), 8)
    server = serve(f"models:/{NAME}/{item.number}", port, workers, out.with_suffix(".log"))
    url = f"http://127.0.0.1:{port}/invocations"
    try:
        measure(url, work, 1, 1)  # what is made once
        before = resident_mib(server.pid)
        answers = measure(url, work, clients, seconds)
        after = resident_mib(server.pid)
    finally:
        stop(server)
    kinds = {kind: quantiles(found) for kind, found in answers.seconds.items()}
    every = [value for found in answers.seconds.values() for value in found]
    found: dict[str, Any] = {
        "machine": machine(), "version": item.number, "clients": clients, "workers": workers, "seconds": answers.took,
        "answers": {"all": quantiles(every) if every else {}, **kinds}, "errors": dict(answers.errors),
        "MiB before": before, "MiB after": after,
    }  # fmt: skip
    write_json(out, found)
    for kind, row in found["answers"].items():
        typer.echo(
            f"{kind}: {row['requests'] / answers.took:.1f} requests/s, p50 {row['p50']:.2f} s, p95 {row['p95']:.2f} s"
        )
    typer.echo(f"errors: {dict(answers.errors) or 'none'}; memory {before:,.0f} -> {after:,.0f} MiB")
    typer.echo(f"written: {out}")


if __name__ == "__main__":
    typer.run(main)
