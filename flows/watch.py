"""Watch the data and tell Prefect when they change: ``python -m flows.watch`` beside a Prefect server.

A look is cheap: names, sizes and times of the files. When they changed and stand still, DVC records the
data and gives their hash. A hash that was not announced yet is sent as the event ``lerenet.data.changed``,
on which the deployment ``retrain/automatic`` runs (``prefect.yaml``). It counts as announced only once the
server has taken it, so a change made while the server is down is announced later. Beside that it looks after the
champion's files.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from flows.data import PULLING, add_data
from flows.dvc import StageError, StageLocked
from lerenet import layout
from lerenet.cli.champion import examined
from lerenet.errors import LerenetError
from lerenet.files import read_json, recover_dir, signature, write_json
from lerenet.notify import tell_champion
from lerenet.registry.candidate import locked_data_md5
from lerenet.registry.telling import tell
from lerenet.tracking.store import backend_uri

EVENT = "lerenet.data.changed"
RESOURCE = "lerenet.data"
STATE = Path(".services/watch-state.json")
CHAMPION_SECONDS = 300.0  # between two looks at the champion
BEAT = Path(".services/watch.beat")  # touched with every look
log = logging.getLogger("flows.watch")


@dataclass(frozen=True)
class Seen:
    """What the watcher knows: the files it saw last, those DVC has recorded, the hash it announced."""

    seen: str = ""
    recorded: str = ""
    announced: str = ""


def look(state: Seen) -> Seen:
    """One look: record data that changed and stand still, announce a hash that is new.

    Raises:
        StageLocked: DVC is at work; look again later.
        StageError: DVC can't record the data.
        httpx.HTTPError: the server did not take the event.
    """
    recover_dir(layout.DATA)  # an import that was killed between its last two steps
    now = signature(layout.DATA)
    if PULLING.exists():
        return state  # half of a fetch is no new data; the retraining finishes it
    if now != state.seen:
        return replace(state, seen=now)  # it may still be changing
    if now and now != state.recorded:
        add_data()
        state = replace(state, recorded=now)
    md5 = layout.data_md5()
    if now and md5 != state.announced:
        announce(md5, state.announced)
        log.info("data changed: %s (before: %s)", md5, state.announced or "none")
        state = replace(state, announced=md5)
    return state


def announce(md5: str, before: str) -> None:
    """Send the event to the server of ``PREFECT_API_URL`` and wait until it is taken."""
    from prefect.client.orchestration import get_client
    from prefect.events import Event, Resource

    resource = Resource({"prefect.resource.id": RESOURCE, "prefect.resource.name": "data"})
    event = Event(event=EVENT, resource=resource, payload={"md5": md5, "before": before})
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")])


def load_state() -> Seen:
    """The state of the last watcher; of the first, the data that the pipeline read last (``dvc.lock``).

    Data that were announced and that no retraining has read yet are announced once more: a power loss takes an event
    along that the server had taken. A retraining that finds nothing to do ends at once.
    """
    locked = locked_data_md5()
    try:
        if STATE.exists():
            state = Seen(**read_json(STATE))
            return state if state.announced in ("", locked) else replace(state, announced=locked)
    except (LerenetError, TypeError) as error:
        log.warning("%s; made anew", error)
    brought = layout.data_md5() not in ("untracked", locked)  # by git: what it names is the news
    return Seen(recorded=signature(layout.DATA) if brought else "", announced=locked)


def watch(every: float) -> None:
    """Look until the process is ended."""
    state, guard = load_state(), Guard()
    while True:
        state = look_and_keep(state)
        guard.look()
        time.sleep(every)


def look_and_keep(state: Seen) -> Seen:
    """One look whose outcome is kept on disk; whatever fails is told and tried again with the next look."""
    import httpx

    try:
        after = look(state)
        if after != state:
            write_json(STATE, asdict(after))
        BEAT.touch()
        return after
    except StageLocked:
        BEAT.touch()
    except (StageError, LerenetError, httpx.HTTPError, OSError) as error:
        log.warning("%s; tried again", error)
    return state


class Guard:
    """Looks at the champion as ``lerenet doctor`` does, now and then, and tells once that it is broken.

    A promotion under way looks like one that was interrupted, so only what two looks find is told.
    """

    def __init__(self) -> None:
        self._next, self._before = time.monotonic(), ("", "", "")

    def look(self) -> None:
        """One look, where it is time for it; what fails is told in the log."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + CHAMPION_SECONDS
        try:
            found = examined(backend_uri())
            if found == self._before:
                tell_champion(*found)
            self._before = found
            tell()  # what a process decided that died before it told anybody
        except Exception as error:
            log.warning("the champion was not looked at: %s", error)


def command(
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 5.0,
) -> None:
    """Watch the data folder and send ``lerenet.data.changed`` when its hash changes."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that a running `dvc add` is ended too
    STATE.parent.mkdir(exist_ok=True)
    watch(every)


if __name__ == "__main__":
    typer.run(command)
