"""The standing services: one of them, or all with every stage, killed while a retraining runs on new data."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
from PIL import Image

from flows.services.access import CLIENT, WORD, header
from flows.services.processes import FOLDER, MARK
from flows.services.standing import page_token
from lerenet.files import read_json, sha256_file
from tests.faults import invariants, process
from tests.faults.bench import Trial
from tests.helpers import pipeline

VICTIMS = ("worker", "prefect", "mlflow", "watch", "all")
RETRAIN = "from flows.retrain import retrain; retrain(wait=True, operator='faults')"
PATIENCE = 900.0  # seconds until the watcher's event has started a retraining; one before it may still run
STRIKE = (2.0, 45.0)  # a kill comes so many seconds after the retraining began


class Stack:
    """A tiny project with its services on ports of their own, and a copy of it that nobody disturbs."""

    def __init__(self, root: Path) -> None:
        self.work, self.calm, self.log = root / "work", root / "calm", root / "stack.log"
        root.mkdir(parents=True)
        pipeline.make_dvc_project(self.work)
        shutil.copytree(self.work, self.calm, symlinks=True)
        pipeline.add_flows(self.work)
        names = ("LERENET_PREFECT_PORT", "LERENET_MLFLOW_PORT", "LERENET_PAGE_PORT")
        self.ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
        self.api = f"http://127.0.0.1:{self.ports[names[0]]}/api"
        self.mlflow = f"http://127.0.0.1:{self.ports[names[1]]}"
        self._page = f"http://127.0.0.1:{self.ports[names[2]]}"

    @property
    def word(self) -> str:
        """What opens Prefect's API; made by the first `up`."""
        return (self.work / WORD).read_text(encoding="utf-8")

    @property
    def served(self) -> dict[str, str]:
        """What a shell needs to speak to the services."""
        return {"PREFECT_API_URL": self.api, CLIENT: self.word, "MLFLOW_TRACKING_URI": self.mlflow}

    @property
    def page(self) -> str:
        """Address of the inspector's page, with what lets one in."""
        return f"{self._page}/?token={page_token(self.word)}"

    def call(self, *words: str, folder: Path | None = None, served: bool = False) -> int:
        """Run a program of the project; its output goes to the log."""
        process.reap()  # what a service left when it was killed
        env = pipeline.environment() | self.ports | (self.served if served else {})
        with self.log.open("ab") as log:
            return subprocess.run(
                words, cwd=folder or self.work, env=env, stdout=log, stderr=log, check=False
            ).returncode

    def services(self, word: str) -> int:
        """``up``, ``down`` or ``status``."""
        return self.call(sys.executable, "-m", "flows.services", word)

    def retrain(self) -> int:
        """One retraining against the services; it waits for one that runs."""
        return self.call(sys.executable, "-c", RETRAIN, served=True)

    def new_data(self, number: int) -> None:
        """Another image in both copies of the data: every stage is stale."""
        for project in (self.work, self.calm):
            path = sorted((project / "data").glob("*/Images/*"))[number]
            with Image.open(path) as image:
                turned = image.rotate(180)
            written = project / "new.jpg"
            turned.save(written, quality=95)
            os.replace(written, path)

    def ask(self, path: str, body: object) -> Any:
        """What Prefect's API answers to a POST; None when it does not answer."""
        head = {"Content-Type": "application/json", **header(self.word)}
        with (
            suppress(OSError, ValueError),
            urlopen(Request(f"{self.api}/{path}", json.dumps(body).encode(), head), timeout=5) as reply,
        ):
            return json.load(reply)
        return None

    def wait_for_run(self, since: datetime) -> bool:
        """Wait until the watcher's event has started a retraining, later than ``since``."""
        wanted = {
            "state": {"type": {"any_": ["RUNNING"]}},
            "start_time": {"after_": since.isoformat()},
            "parent_task_run_id": {"is_null_": True},
        }
        return self.wait_for("flow_runs/filter", {"flow_runs": wanted})

    def wait_for(self, path: str, body: object) -> bool:
        """Wait until Prefect's API has something to answer."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.ask(path, body):
                return True
            time.sleep(0.5)
        return False

    def kill(self, victim: str) -> None:
        """SIGKILL to a service's first process, or to every process there is."""
        known = self.work / FOLDER / f"{victim}.json"
        for pid in [one.pid for one in living(self.work)] if victim == "all" else [read_json(known)["pid"]]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def asked(self, question: Callable[[], list[str]]) -> list[str]:
        """The violations that a question finds in the project, asked in a child."""
        answer = self.log.with_name("answer.txt")
        answer.unlink(missing_ok=True)

        def child() -> None:
            os.chdir(self.work)
            for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DVC_STAGE"):
                os.environ.pop(name, None)
            answer.write_text("\n".join(question()))

        code = process.run(child, self.log)
        return answer.read_text().splitlines() if code == 0 else [f"the check ended with {code}: {self.log}"]

    def differences(self) -> list[str]:
        """Weights by their bytes beside those of ``dvc repro`` on the same data, undisturbed."""
        if code := self.call("dvc", "repro", folder=self.calm):
            return [f"the undisturbed run ended with {code}: {self.log}"]
        found = sorted((self.calm / "artifacts/train").glob("*/model/weights.safetensors"))
        names = [path.relative_to(self.calm) for path in found]
        same = [sha256_file(self.calm / name) == sha256_file(self.work / name) for name in names]
        return [f"differs from an undisturbed run: {n}" for n, ok in zip(names, same, strict=True) if not ok]

    def trial(self, number: int, victim: str, seconds: float) -> Trial:
        """New data, a retraining by event, a kill after so many seconds; `up`, the next run, and a look."""
        result = Trial("stack", f"{victim} killed", True)
        since = datetime.now(UTC)
        self.new_data(number)
        if not self.wait_for_run(since):
            result.violations.append("the new data started no retraining")
        time.sleep(seconds)
        self.kill(victim)
        result.violations += self.asked(
            lambda: invariants.half_written(self.work) + invariants.registry_agrees()
        )
        if code := self.services("up"):
            result.violations.append(f"up ended with {code}: {self.log}")
        if code := self.retrain():
            result.violations.append(f"the next run ended with {code}: {self.log}")
        decided = [str(each + 1) for each in range(number + 2)]
        result.violations += self.asked(
            lambda: (
                invariants.half_written(self.work)
                + invariants.leftovers(self.work)
                + invariants.registry_agrees()
                + invariants.decided(decided)
            )
        )
        result.violations += self.differences()
        return result


def living(project: Path) -> list[psutil.Process]:
    """Living processes of a project's services, and of what they started."""
    mark, found = str((project / FOLDER).resolve()) + os.sep, []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if one.environ().get(MARK, "").startswith(mark) and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


@contextmanager
def standing(root: Path) -> Iterator[Stack]:
    """A project with its services up and a first, undisturbed retraining done; `down` at the end.

    Raises:
        RuntimeError: one of them fails; the log is named.
    """
    stack = Stack(root)
    try:
        if stack.services("up") or stack.retrain() or stack.services("status"):
            raise RuntimeError(f"the services, undisturbed: see {stack.log}")
        yield stack
    finally:
        stack.services("down")


def trials(kills: int, seed: int, root: Path) -> Iterator[Trial]:
    """``kills`` kills among the services, then ``down``: no process is left. Errors as in `standing`."""
    if not kills:
        return
    draw = random.Random(f"{seed} stack")
    with standing(root / "stack") as stack:
        for number in range(kills):
            yield stack.trial(number, VICTIMS[number % len(VICTIMS)], draw.uniform(*STRIKE))
    left = [f"process {one.pid} outlived `down`" for one in living(stack.work)]
    yield Trial("stack", "down, at the end", False, left)
