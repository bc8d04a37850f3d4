"""`dvc repro` of a tiny cell, killed with all its children or by one of them dying."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.faults.points import VARIABLE, Point
from tests.faults.scenarios import CELL, Training
from tests.helpers import pipeline


class Repro(Training):
    """Data to features are done; the training's stage is run by DVC, in processes of its own."""

    name = "repro"
    points = ("lerenet.training.checkpoint:save@1/after", "lerenet.stages.train:save_network@1/after")
    target = f"train@{CELL}"

    def prepare(self) -> None:
        """The project up to its features, and an undisturbed training beside it."""
        pipeline.make_dvc_project(Path.cwd())
        self._repro(f"features@{CELL.partition('-lerenet')[0]}")
        undisturbed = self.root / "undisturbed"
        shutil.copytree(self.work, undisturbed, symlinks=True)
        os.chdir(undisturbed)
        self.run()
        os.chdir(self.work)

    def run(self) -> None:
        """The stage, and what it needs."""
        self._repro(self.target)

    def arm(self, point: Point) -> None:
        """The stage's process finds the point in its environment."""
        os.environ[VARIABLE] = str(point)
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(Path(__file__).parent / "site"), str(pipeline.SOURCE), os.environ.get("PYTHONPATH", "")]
        )

    def _repro(self, target: str) -> None:
        subprocess.run(["dvc", "repro", target], env=pipeline.environment(), check=True)
