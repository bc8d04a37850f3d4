"""Power loss: every process killed while new data are on their way; then `up`, and nothing else.

At four moments: before the event, while the run waits for its process, while it runs, while its version is judged.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tests.faults import invariants
from tests.faults.bench import Trial
from tests.faults.stack import Stack, standing

MOMENTS = ("event", "pending", "running", "promotion")
DECIDED = 600.0  # seconds after `up` in which the new data are retrained and decided
LATER = {
    "event": (0.0, 15.0),
    "pending": (0.0, 1.0),
    "running": (0.0, 45.0),
    "promotion": (0.0, 6.0),
}  # seconds


def wait_until(stack: Stack, moment: str, since: datetime) -> bool:
    """Wait for the moment; whether it came."""
    if moment == "event":
        return True
    if moment == "pending":
        states = {
            "state": {"type": {"any_": ["PENDING", "RUNNING"]}},
            "parent_task_run_id": {"is_null_": True},
        }
        return stack.wait_for("flow_runs/filter", {"flow_runs": states})
    if moment == "running":
        return stack.wait_for_run(since)
    judged = {"name": {"like_": "gate and promotion"}, "start_time": {"after_": since.isoformat()}}
    return stack.wait_for("task_runs/filter", {"task_runs": judged})


def undecided() -> list[str]:
    """Nothing where the data as they lie there have been retrained and decided."""
    from flows.retrain import nothing_changed
    from lerenet import layout
    from lerenet.params import load_params

    return [] if nothing_changed(load_params(layout.PARAMS)) else ["the new data are not decided"]


def trial(stack: Stack, number: int, moment: str, seconds: float) -> Trial:
    """New data, a power loss at the moment and so many seconds later, `up`, and the wait for a decision."""
    result = Trial("reboots", moment, True)
    since = datetime.now(UTC)
    stack.new_data(number)
    if not wait_until(stack, moment, since):
        result.violations.append(f"{moment} never came")
    time.sleep(seconds)
    stack.kill("all")
    result.violations += stack.asked(lambda: invariants.half_written(stack.work))
    if code := stack.services("up"):
        result.violations.append(f"up ended with {code}: {stack.log}")
    deadline = time.monotonic() + DECIDED
    left = ["not asked"]
    while left and time.monotonic() < deadline:
        time.sleep(10)
        left = stack.asked(undecided)
    result.violations += left
    result.violations += stack.asked(
        lambda: (
            invariants.half_written(stack.work)
            + invariants.registry_agrees()
            + invariants.decided([str(each + 1) for each in range(number + 2)])
        )
    )
    if code := stack.services("status"):
        result.violations.append(f"status ended with {code}: {stack.log}")
    return result


def trials(kills: int, seed: int, root: Path) -> Iterator[Trial]:
    """``kills`` power losses of one project, at each moment in turn. Errors as in `tests.faults.stack.standing`."""
    if not kills:
        return
    draw = random.Random(f"{seed} reboots")
    with standing(root / "reboots") as stack:
        for number in range(kills):
            moment = MOMENTS[number % len(MOMENTS)]
            yield trial(stack, number, moment, draw.uniform(*LATER[moment]))
