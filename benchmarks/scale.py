"""Time and memory of the data stages and of the feature cache as the data grow: ``python -m benchmarks.scale``.

Made data of 500, 2,000 and 10,000 images (up to 100 classes) go through the catalogue, validation, folds and
episodes, the cache of frozen features, and the live model's stages. Every part runs in a process of its own, whose
peak of resident memory is read when it ends: with what it maps from files, which the system takes back when it needs
the room, and, looked at five times a second, without. What the imports alone take is the row ``start``.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

SIZES = (500, 2000, 10000)
MOST_CLASSES, PER_CLASS = 100, 20  # fewer classes where that leaves less than 20 images each
CLEAN = 0.2  # share of clean images
BACKBONE = "efficientnet_lite0"
LOOK = 0.2  # seconds between two looks at a part's memory
KEPT = (".cache/features", "artifacts/enrol")


def classes_of(images: int) -> int:
    """How many classes a data set of so many images gets."""
    return min(MOST_CLASSES, images // PER_CLASS)


def make(images: int, steps: int | None, epochs: int | None) -> None:
    """Data and settings in the current folder; other numbers of fitting steps and of the shared heads' epochs."""
    from lerenet.data.sample import make_sample
    from lerenet.files import write_json
    from lerenet.params import Params

    classes = classes_of(images)
    each = images // classes
    clean = round(each * CLEAN)
    make_sample(Path("data"), defect=each - clean, clean=clean, classes=classes)
    fitting = {name: value for name, value in (("steps", steps), ("shared", epochs)) if value is not None}
    params = Params.model_validate({"views": {"count": 1}, "enrolment": fitting})
    write_json(Path("params.yaml"), params.model_dump(mode="json"))


def start() -> None:
    """What the stages import, and nothing done."""
    import lerenet.stages.features
    import lerenet.stages.validate  # noqa: F401


def catalog() -> None:
    """Stage ``catalog``."""
    from lerenet.stages import catalog as stage

    stage.run()


def validate() -> None:
    """Stage ``validate``."""
    from lerenet.stages import validate as stage

    stage.run()


def folds() -> None:
    """Stage ``folds``."""
    from lerenet.stages import folds as stage

    stage.run()


def validate_folds() -> None:
    """Stage ``validate_folds``."""
    from lerenet.stages import validate as stage

    stage.run_folds()


def features() -> None:
    """What stage ``features@fold0-…`` does, with the initial weights."""
    from lerenet import layout
    from lerenet.features.store import FeatureStore
    from lerenet.models.backbones.factory import create_backbone
    from lerenet.stages.common import Inputs

    inputs = Inputs.load()
    backbone = create_backbone(BACKBONE, "imagenet", inputs.params.levels).eval()
    store = FeatureStore(backbone, inputs.catalog, inputs.params, layout.DATA)
    split = inputs.split("fold0")
    store.ensure([*split["base"], *split["validation"]], augmented=True)
    store.ensure(split["novel"])


def enrol() -> None:
    """Stage ``enrol``, its pass of the backbone over every image included."""
    from lerenet.stages import enrol as stage

    stage.run()


def inspect() -> None:
    """Stage ``inspect``."""
    from lerenet.stages import inspect as stage

    stage.run()


def photos() -> None:
    """Ten photos inspected for every class, the model's loading included."""
    from lerenet import layout
    from lerenet.enrolment.enrolled import read_inspection
    from lerenet.enrolment.inspect import Inspector
    from lerenet.inference import read_query

    inspector = Inspector(*read_inspection(layout.ENROL))
    for path in sorted(layout.DATA.glob("*/Images/*"))[:10]:
        inspector(read_query(path))


PARTS: tuple[Callable[[], None], ...] = (
    start, catalog, validate, folds, validate_folds, features, enrol, inspect, photos,
)  # fmt: skip
NAMES = [part.__name__ for part in PARTS]


def _child(part: Callable[[], None], answer: Any) -> None:
    own = [resident_mib("RssAnon")]

    def look() -> None:
        while True:
            own[0] = max(own[0], resident_mib("RssAnon"))
            time.sleep(LOOK)

    threading.Thread(target=look, daemon=True).start()
    began = time.monotonic()
    part()
    seconds = time.monotonic() - began
    answer.send(
        {"part": part.__name__, "seconds": seconds, "peak_mib": resident_mib("VmHWM"), "own_mib": own[0]}
    )


def resident_mib(name: str) -> float:
    """Resident memory of this process: ``VmHWM``, its peak, or ``RssAnon``, what is no file's (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


def apart(part: Callable[[], None]) -> dict[str, Any]:
    """Run ``part`` in a fresh process: its seconds and its peaks of resident memory, in MiB.

    Raises:
        RuntimeError: it failed.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(part, there))
    child.start()
    there.close()
    child.join()
    if child.exitcode:
        raise RuntimeError(f"{part.__name__}: status {child.exitcode}")
    found: dict[str, Any] = here.recv()
    return found


def measure(
    images: int,
    parts: Sequence[Callable[[], None]] = PARTS,
    steps: int | None = None,
    epochs: int | None = None,
) -> Iterator[dict[str, Any]]:
    """The parts on made data of so many images, in a temporary folder; a row as each ends, the last with sizes."""
    before, folder = Path.cwd(), Path(tempfile.mkdtemp(prefix="lerenet-scale-"))
    os.chdir(folder)
    try:
        make(images, steps, epochs)
        for part in parts:
            row = {"images": images, "classes": classes_of(images), **apart(part)}
            typer.echo(f"{images:,} images, {part.__name__}: {_cell(row)}")
            if part is parts[-1]:
                row |= {name: _mib(folder / name) for name in KEPT}
            yield row
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)


def _mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: one line a part, seconds and MiB for each size."""
    sizes = sorted({row["images"] for row in rows})
    heads = [f"{size:,} images, {classes_of(size)} classes" for size in sizes]
    lines = [f"| part | {' | '.join(heads)} |", "|---|" + "---|" * len(sizes)]
    for part in dict.fromkeys(row["part"] for row in rows):
        found = {row["images"]: row for row in rows if row["part"] == part}
        cells = [_cell(found[size]) if size in found else "-" for size in sizes]
        lines.append(f"| `{part}` | {' | '.join(cells)} |")
    for name in KEPT:
        kept = {row["images"]: row[name] for row in rows if name in row}
        cells = [f"{kept[size]:,.0f} MiB" if size in kept else "-" for size in sizes]
        lines.append(f"| `{name}` on disk | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    own = f"{row['own_mib']:,.0f} MiB, " if "own_mib" in row else ""
    return f"{row['seconds']:.1f} s, {own}{row['peak_mib']:,.0f} MiB with files"


def main(
    images: Annotated[list[int], typer.Option(min=240, help="Sizes; repeat it for several.")] = SIZES,  # type: ignore[assignment]
    only: Annotated[
        list[str] | None, typer.Option("--part", help=f"One of {', '.join(NAMES)}, in their order; all.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Of fitting; enrolment.steps otherwise.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="Of the shared heads; enrolment.shared otherwise.")
    ] = None,
    out: Annotated[Path, typer.Option(help="JSON with every value.")] = Path(
        "artifacts/benchmarks/scale.json"
    ),
) -> None:
    """Measure the data stages and the feature cache on made data of several sizes."""
    from benchmarks.results import machine
    from lerenet.files import write_json

    strange = set(only or ()) - set(NAMES)
    if strange:
        raise typer.BadParameter(f"{', '.join(sorted(strange))}: no part; one of {', '.join(NAMES)}")
    parts = [part for part in PARTS if not only or part.__name__ in only]
    out, rows = out.resolve(), []
    for size in sorted(set(images)):
        for row in measure(size, parts, steps, epochs):
            rows.append(row)
            write_json(out, {"machine": machine(), "steps": steps, "epochs": epochs, "rows": rows})
    typer.echo(table(rows))
    typer.echo(f"written: {out}")


if __name__ == "__main__":
    typer.run(main)
