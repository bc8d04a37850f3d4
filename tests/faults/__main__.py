"""``python -m tests.faults --kills 100 --seed 0``: kill, check, repeat, check; exit 1 on a violation.

Every other kill is at a named point, the rest at times drawn over the measured duration.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from tests.faults import process, reboots, stack
from tests.faults.bench import Bench, Trial
from tests.faults.repro import Repro
from tests.faults.scenarios import Ledger, Promotion, Scenario, Training, named

SHARES: dict[type[Scenario], float] = {Ledger: 0.19, Training: 0.38, Promotion: 0.34, Repro: 0.04}
STANDING = {"stack": (stack.trials, 0.04), "reboots": (reboots.trials, 0.01)}
NAMES = [*(kind.name for kind in SHARES), *STANDING]


def trials(kind: type[Scenario], kills: int, seed: int, root: Path) -> Iterator[Trial]:
    """``kills`` kills of one scenario."""
    if not kills:
        return
    bench = Bench.make(kind, root)
    draw = random.Random(f"{seed} {kind.name}")
    points = draw.sample(named(bench.scenario), len(kind.points))
    for number in range(kills):
        place = points[number // 2 % len(points)] if number % 2 == 0 else None
        yield bench.trial(place, draw.uniform(0, bench.seconds))


def all_trials(kills: int, only: str | None, seed: int, root: Path) -> Iterator[Trial]:
    """Every scenario's share of ``kills``, or all of them for the one named."""

    def count(name: str, share: float) -> int:
        return kills * (name == only) if only else round(kills * share)

    for kind, share in SHARES.items():
        yield from trials(kind, count(kind.name, share), seed, root)
    for name, (make, share) in STANDING.items():
        yield from make(count(name, share), seed, root)


def preload() -> None:
    """Import what the children need, so that each fork has it."""
    import mlflow.pyfunc
    import mlflow.tracking  # noqa: F401

    import lerenet.stages.evaluate
    import lerenet.stages.pretrain
    import lerenet.stages.train  # noqa: F401

    torch.set_num_threads(1)  # a fork keeps no pool of threads


def table(found: list[Trial]) -> str:
    """Kills, how many struck before the work was done, and violations, by scenario and point."""
    rows = [
        {
            "scenario": t.scenario,
            "point": t.point,
            "kills": 1,
            "struck": t.struck,
            "violations": len(t.violations),
        }
        for t in found
    ]
    grouped = pd.DataFrame(rows).groupby(["scenario", "point"]).sum()
    return str(grouped.to_string()) + "\n" + str(grouped.sum().to_string())


def main() -> int:
    """Run the kills and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--keep", type=Path, help="an empty folder for the work and its logs")
    given = parser.parse_args()
    process.adopt()
    preload()
    found: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="lerenet-faults-") as temporary:
        root = given.keep or Path(temporary)
        for trial in all_trials(given.kills, given.only, given.seed, root):
            found.append(trial)
            print(f"{len(found):3} {trial.scenario:<10} {trial.point} {trial.violations or 'ok'}", flush=True)
    print(table(found))
    return int(any(trial.violations for trial in found))


if __name__ == "__main__":
    sys.exit(main())
