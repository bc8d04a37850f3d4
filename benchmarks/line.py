"""Many photos in one call, stopped in the middle and gone on with: ``python -m benchmarks.line CLASS…``.

The photos are those of some classes of ``data/``, as one line has them, over and over, under names of their own;
they are inspected for these classes, by the inspection model of ``artifacts/enrol``. The call is sent Ctrl-C when about
half of the photos are done, then repeated. Its resident memory is looked at ten times a second.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from benchmarks.project import photos_of
from benchmarks.results import machine
from lerenet import layout
from lerenet.files import read_json, write_json
from lerenet.predict.partial import JOURNAL

LOOK = 0.1  # seconds


def linked(folder: Path, classes: Sequence[str], count: int) -> Path:
    """A folder of so many photos of some classes."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [path for cls in classes for path in photos_of(cls)]
    for number in range(count):
        source = found[number % len(found)]
        path = folder / f"{number:05d}{source.suffix}"
        if not path.exists():
            os.link(source.resolve(), path)
    return folder


def memory_mib(pid: int) -> float:
    """Resident memory that is no file's (Linux)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024
    except (OSError, StopIteration):
        return float("nan")


def done(out: Path) -> int:
    """Photos that are inspected so far."""
    journals = list(out.parent.glob(f".inspecting-*/{JOURNAL}"))
    return max(0, journals[0].read_bytes().count(b"\n") - 1) if journals else 0


def call(photos: Path, out: Path, classes: Sequence[str], stop_at: int | None) -> dict[str, Any]:
    """One call: seconds, status, photos done, and memory by the photos done."""
    command = [
        sys.executable,
        "-m",
        "lerenet",
        "inspect",
        str(photos),
        "--out",
        str(out),
        "--model",
        str(layout.ENROL),
        *(word for cls in classes for word in ("--class", cls)),
    ]
    began, looks = time.monotonic(), []
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background ignores
    )  # fmt: skip
    while process.poll() is None:
        count = done(out)
        looks.append((count, memory_mib(process.pid)))
        if stop_at is not None and count >= stop_at:
            process.send_signal(signal.SIGINT)
            process.wait()
        time.sleep(LOOK)
    table = pd.DataFrame(looks, columns=["photos", "mib"]).dropna()
    parts = pd.cut(table["photos"], 4, labels=False) if table["photos"].nunique() > 4 else 0
    by_quarter = table.groupby(parts)["mib"].median().round().tolist()
    return {
        "seconds": time.monotonic() - began, "status": process.returncode,
        "memory_mib_by_quarter": by_quarter, "memory_mib_most": float(table["mib"].max()),
    }  # fmt: skip


def main(
    classes: Annotated[list[str], typer.Argument(help="Of one surface.")],
    count: Annotated[int, typer.Option(min=10, help="Photos.")] = 2000,
    out: Annotated[Path, typer.Option(help="Folder: photos, answers, and a JSON with every value.")] = Path(
        "artifacts/benchmarks/line"
    ),
) -> None:
    """Inspect many photos, stop in the middle, go on; print seconds, rate and memory."""
    shutil.rmtree(out, ignore_errors=True)
    photos, answers = linked(out / "photos", classes, count), out / "found"
    first = call(photos, answers, classes, count // 2)
    kept = done(answers)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob(".inspecting-*/*_marks.png")}
    second = call(photos, answers, classes, None)
    again = sum((answers / name).stat().st_mtime_ns != stamp for name, stamp in before.items())
    rows = read_json(answers / "inspections.json")["images"]
    found = {
        "machine": machine(), "data": layout.data_md5(), "photos": count, "classes": classes,
        "stopped": first | {"done": kept}, "gone on": second | {"made again": again},
        "photos a second": float(np.round(count / (first["seconds"] + second["seconds"]), 2)),
        "whole": len(rows) == count and not any(row["error"] for row in rows),
    }  # fmt: skip
    write_json(out / "line.json", found)
    typer.echo(json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
