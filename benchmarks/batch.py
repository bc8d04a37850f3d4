"""A batch of `lerenet predict`: pictures a second on made pictures, beside another checkout of this project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.results import Row, Section, ratio
from lerenet.errors import DataError
from lerenet.progress import progress

SIZES = {64: 200, 1200: 20}  # side of the pictures in pixels -> how many
HERE = Path(__file__).parent.parent
RUN = """
import json, sys, time
from pathlib import Path
from lerenet.predict import open_model, predict
folder, loaded = Path(sys.argv[1]), open_model("matching")
queries = sorted((folder / "parts").iterdir())
began, used = time.perf_counter(), time.process_time()
predict([(folder / "s.png", folder / "s_mask.png")], queries, Path(sys.argv[2]), loaded)
print(json.dumps([time.perf_counter() - began, time.process_time() - used]))
"""


def measure(rounds: int, beside: Path | None, threads: int, quick: bool) -> Section:
    """Pictures a second, and the processor's time for one, each round in a process of its own.

    Args:
        rounds: How often; in turns with the other checkout.
        beside: Another checkout, e.g. ``git worktree add /tmp/base COMMIT``; None: this one alone.
        threads: Of torch.
        quick: A few pictures of each size.

    Raises:
        DataError: a checkout whose `lerenet predict` fails.
    """
    trees = {"this one": HERE} | ({"the other": beside.resolve()} if beside else {})
    rows: list[Row] = []
    with progress("batch", len(SIZES) * rounds) as tick, tempfile.TemporaryDirectory() as scratch:
        for side, count in SIZES.items():
            folder = Path(scratch, str(side))
            make(folder, side, 3 if quick else count)
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in trees}
            for turn in range(rounds):
                for name, tree in trees.items():
                    found[name].append(_run(tree, folder, Path(scratch, f"{side} {name} {turn}"), threads))
                tick()
            rows += _rows(side, len(list((folder / "parts").iterdir())), found)
            if beside:
                outs = (Path(scratch, f"{side} {name} 0") for name in trees)
                rows.append(Row(f"{side} x {side}, pixels that differ", "pixels", (float(differing(*outs)),)))
    note = "model matching; from the loaded network to the tables on the disk; each round in a process of its own"
    return Section(f"Batch of `lerenet predict`, {threads} threads", rows, [note])


def _rows(side: int, count: int, found: dict[str, list[tuple[float, float]]]) -> Iterator[Row]:
    speeds = {name: tuple(count / wall for wall, _ in times) for name, times in found.items()}
    for name, times in found.items():
        yield Row(f"{side} x {side}, {name}", "pictures/s", speeds[name], f"{count} pictures")
        used = tuple(1000 * cpu / count for _, cpu in times)
        yield Row(f"{side} x {side}, {name}, processor", "ms", used, "a picture, of all cores")
    if len(found) > 1:
        yield ratio(f"{side} x {side}, this one over the other", *speeds.values())


def make(folder: Path, side: int, count: int) -> None:
    """A marked support and ``count`` pictures of the same kind, ``side`` pixels a side."""
    (folder / "parts").mkdir(parents=True)
    for number in range(count + 1):
        picture, mask = _picture(np.random.default_rng(number), side)
        path = folder / "parts" / f"{number:04}.png" if number else folder / "s.png"
        Image.fromarray(picture).save(path)
        if not number:
            Image.fromarray(mask).save(folder / "s_mask.png")


def _picture(rng: np.random.Generator, side: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A cloudy ground with grain and a bright blob (side, side, 3), and the blob's mask (side, side)."""
    coarse = Image.fromarray(rng.integers(70, 150, (6, 6, 3), dtype=np.uint8))
    ground = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(np.float32)
    y, x = np.mgrid[:side, :side] / side - rng.uniform(0.3, 0.7, (2, 1, 1))
    mask = (y / 0.15) ** 2 + (x / 0.12) ** 2 < 1
    drawn = ground + rng.normal(0, 4, (side, side, 1)) + 90 * mask[..., None]
    return drawn.clip(0, 255).astype(np.uint8), mask


def _run(tree: Path, folder: Path, out: Path, threads: int) -> tuple[float, float]:
    """Seconds, and seconds of the processor, of a call with the code in ``tree``."""
    words = [sys.executable, "-c", RUN, str(folder), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise DataError(
            f"{tree}: `lerenet predict` fails there: {done.stderr[-500:]}", "name another checkout"
        )
    wall, cpu = json.loads(done.stdout.splitlines()[-1])
    return wall, cpu


def differing(one: Path, other: Path) -> int:
    """How many pixels of the masks in two output folders differ."""
    masks = (path.name for path in sorted(one.glob("*_mask.png")))
    return sum(int((_mask(one / name) != _mask(other / name)).sum()) for name in masks)


def _mask(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)
