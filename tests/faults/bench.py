"""One kill after another: start from the snapshot, kill, check, repeat the command, check."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import process
from tests.faults.points import STRUCK, Point
from tests.faults.scenarios import Scenario


@dataclass
class Trial:
    """One kill: where, whether it struck before the work was done, and what did not hold."""

    scenario: str
    point: str
    struck: bool
    violations: list[str] = field(default_factory=list)


@dataclass
class Bench:
    """A scenario made ready: its snapshot taken, the time of an undisturbed run measured."""

    scenario: Scenario
    seconds: float = 0.0
    trials: int = 0

    @classmethod
    def make(cls, kind: type[Scenario], root: Path) -> Bench:
        """Prepare the snapshot and measure one undisturbed run.

        Raises:
            RuntimeError: the undisturbed work fails or leaves violations; the log is named.
        """
        bench = cls(kind(root))
        scenario = bench.scenario
        scenario.work.mkdir()
        bench.must(scenario.prepare)
        scenario.work.rename(scenario.snapshot)
        scenario.reset()
        started = time.monotonic()
        bench.must(scenario.run)
        bench.seconds = time.monotonic() - started
        if found := bench.asked(scenario.after_repeat):
            raise RuntimeError(f"{scenario.name}, undisturbed: {found}")
        return bench

    @property
    def log(self) -> Path:
        """Output of this trial's children."""
        return self.scenario.root / f"{self.trials:03}.log"

    def child(self, work: Callable[[], object]) -> Callable[[], None]:
        """``work``, in the scenario's folder."""

        def inside() -> None:
            self.scenario.enter()
            work()

        return inside

    def must(self, work: Callable[[], object]) -> None:
        """Do ``work`` in a child that must end well."""
        if code := process.run(self.child(work), self.log):
            raise RuntimeError(f"{self.scenario.name}: exit {code}, see {self.log}")

    def asked(self, question: Callable[[], list[str]]) -> list[str]:
        """The violations that a question finds, asked in a child."""
        answer = self.scenario.root / "answer.txt"
        answer.unlink(missing_ok=True)
        code = process.run(self.child(lambda: answer.write_text("\n".join(question()))), self.log)
        return answer.read_text().splitlines() if code == 0 else [f"the check ended with {code}: {self.log}"]

    def trial(self, point: Point | None, seconds: float) -> Trial:
        """Kill the work at ``point``, or after ``seconds`` where that is None, and look at what is left."""
        self.trials += 1
        scenario = self.scenario
        scenario.reset()

        def work() -> None:
            if point is not None:
                scenario.arm(point)
            scenario.run()

        child = process.start(self.child(work), self.log)
        struck = process.kill(child, None if point else seconds)
        name = str(point) if point else "at a random time"
        result = Trial(scenario.name, name, struck or STRUCK in self.log.read_text())
        result.violations += [f"process {pid} lives on" for pid in process.orphans(child)]
        result.violations += self.asked(scenario.after_kill)
        if point and not result.struck:
            result.violations.append("the point was never reached")
        if code := process.run(self.child(scenario.run), self.log):
            result.violations.append(f"the next run ended with {code}: {self.log}")
        result.violations += self.asked(scenario.after_repeat)
        return result
