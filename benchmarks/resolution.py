"""Pictures at their class's scale against pictures squashed to a square: ``python -m benchmarks.resolution``.

Pictures of 6,000 x 4,000 are put together of real ones: of pictures of good parts, with one picture of a marked part
in those that are to be called. Groups are kept apart: what a class is enrolled with shows no part that it is asked
about. One class is enrolled from the pictures as they are, cut into squares, with good parts of the large size, the
other from large pictures squashed to a square, as both would be. Each inspects the same large pictures; as the two
score differently, they are compared where they call as many good ones.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from PIL import Image

from benchmarks.results import machine
from benchmarks.scale import resident_mib
from lerenet import layout
from lerenet.data.cataloguing import build_catalog
from lerenet.data.encoding import encode_png
from lerenet.data.groups import folds_of
from lerenet.data.images import Pixels, read_image
from lerenet.data.masks import read_mask
from lerenet.data.tiles import side_for
from lerenet.enrolment.enrol import Given, enrol_class
from lerenet.enrolment.enrolled import Enrolled, load_enrolled
from lerenet.enrolment.inspect import Inspector
from lerenet.enrolment.stored import code_digest
from lerenet.enrolment.verdicts import auroc
from lerenet.files import write_json
from lerenet.models.serialization import matching_network
from lerenet.params import EnrolmentSettings, load_params
from lerenet.progress import progress
from lerenet.seeds import generator

WIDTH, HEIGHT = 6000, 4000
SIZES = {
    "below 0.01 %": 1e-4,
    "0.01 to 0.1 %": 1e-3,
    "0.1 % and more": 1.0,
}  # of a defect: its share of the picture
SQUARES, SQUASHED = "squares", "squashed"
GOOD = 10  # large pictures of good parts that a class is enrolled with
ASKED = 20  # large pictures of good parts that are inspected


@dataclass(frozen=True)
class Large:
    """A large picture in files."""

    picture: Path
    mask: Path | None


def composed(
    parts: Sequence[Pixels], marked: tuple[Pixels, NDArray[np.bool_]] | None, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.bool_]]:
    """A large picture of parts, row by row, each drawn anew, with one marked part at a drawn place; and its mask."""
    whole, mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((HEIGHT, WIDTH), bool)
    high, wide = (int(np.median([part.shape[axis] for part in parts])) for axis in (0, 1))
    places = [(top, left) for top in range(0, HEIGHT, high) for left in range(0, WIDTH, wide)]
    for top, left in places:
        _put(whole, parts[int(rng.integers(len(parts)))], top, left, high, wide)
    if marked is not None:
        inner = [(top, left) for top, left in places if top + high <= HEIGHT and left + wide <= WIDTH]
        top, left = inner[int(rng.integers(len(inner)))]
        picture, truth = marked
        _put(whole, picture, top, left, high, wide)
        _put(mask, truth, top, left, high, wide)
    return whole, mask


def _put(whole: NDArray[Any], part: NDArray[Any], top: int, left: int, high: int, wide: int) -> None:
    """A part at its own scale; what it lacks of its place goes on as its mirror image."""
    height, width = min(high, len(whole) - top), min(wide, whole.shape[1] - left)
    short = [(0, max(0, need - have)) for need, have in zip((height, width), part.shape[:2], strict=True)]
    padded = np.pad(part, [*short, *[(0, 0)] * (part.ndim - 2)], mode="symmetric")
    whole[top : top + height, left : left + width] = padded[:height, :width]


def make(folder: Path, rows: pd.DataFrame, seed: int) -> dict[str, list[Large]]:
    """Large pictures of a class to enrol with and to ask about, in files; those that are there stay."""
    own = folds_of(rows["group"].tolist(), 2)
    found: dict[str, list[Large]] = {}
    for name, fold in (("given", 0), ("asked", 1)):
        half = rows[own == fold]
        good = [read_image(layout.DATA / image) for image in half.loc[half["kind"] == "clean", "image"]]
        marked = half[half["kind"] == "defect"]
        jobs: list[pd.Series | None] = [row for _, row in marked.iterrows()]
        jobs += [None] * (GOOD if name == "given" else ASKED)
        for number, row in enumerate(jobs):
            kind = "good" if row is None else "marked"
            large = Large(
                folder / f"{name}-{number:03d}.png",
                None if row is None else folder / f"{name}-{number:03d}-mask.png",
            )
            found.setdefault(f"{name} {kind}", []).append(large)
            if large.picture.exists() and (large.mask is None or large.mask.exists()):
                continue
            pair = (
                None
                if row is None
                else (read_image(layout.DATA / row["image"]), read_mask(layout.DATA / row["mask"]))
            )
            # no two large good pictures share a part, and marked ones are of as few: one part more is all that differs
            deal = GOOD if name == "given" else ASKED
            own_parts = good[(number if row is not None else number - len(marked)) % deal :: deal]
            picture, mask = composed(own_parts, pair, generator(seed, name, number))
            if large.mask is not None:
                large.mask.write_bytes(encode_png(mask.astype(np.uint8) * 255))
            Image.fromarray(picture).save(large.picture, compress_level=1)
    return found


def folder_of(out: Path, cls: str, seed: int) -> Path:
    """A folder for a class's pictures and what is learnt of them, of today's code and data."""
    made_of = hashlib.sha256(f"{code_digest()} {layout.data_md5()}".encode()).hexdigest()[:12]
    folder = out / f"{cls}-{seed}-{made_of}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def own_side(rows: pd.DataFrame) -> int:
    """Pixels of a class's pictures that make a square: their short side, whatever their shape."""
    shapes = list(zip(rows["height"], rows["width"], strict=True))
    return side_for(shapes) or round(float(rows["height"].median()))


def given_parts(rows: pd.DataFrame) -> list[tuple[Path, list[Path]]]:
    """The marked pictures of a class, with their masks, of parts that are not asked about."""
    marked = rows[(folds_of(rows["group"].tolist(), 2) == 0) & (rows["kind"] == "defect")]
    return [(layout.DATA / row["image"], [layout.DATA / row["mask"]]) for _, row in marked.iterrows()]


def enrolled(
    cls: str, rows: pd.DataFrame, large: Mapping[str, list[Large]], into: Path
) -> dict[str, Enrolled]:
    """The class in both ways, from the same parts."""
    loaded = matching_network(load_params(layout.PARAMS).image_size)
    good = [one.picture for one in large["given good"]]
    whole = [(one.picture, [one.mask]) for one in large["given marked"] if one.mask is not None]
    ways = {SQUARES: (Given(given_parts(rows), good), own_side(rows)), SQUASHED: (Given(whole, good), 0)}
    found = {}
    for way, (given, width) in ways.items():
        if not (into / way / cls).is_dir():
            settings = EnrolmentSettings(curve=())
            with progress(f"enrol {way}", len(given.examples) + len(given.good)) as tick:
                enrol_class(cls, given, loaded, into / way, settings, width, tick)
        found[way] = load_enrolled(into / way / cls)
    return found


def ask(folder: Path, way: str, cls: str, pictures: Sequence[str]) -> None:
    """Inspect pictures, in a process of its own, which reads no truth: a row of JSON each, at last the peak of memory.

    What is marked, a bit a pixel, goes to a file beside the picture.
    """
    loaded = matching_network(load_params(layout.PARAMS).image_size)
    inspector = Inspector(loaded, [load_enrolled(folder / way / cls)])
    for name in pictures:
        picture = read_image(Path(name))
        began = time.monotonic()
        found = inspector(picture, mark_good=True)
        seconds = time.monotonic() - began
        np.save(Path(name).with_suffix(".npy"), np.packbits(found.marks > 0))
        row = {
            "way": way, "picture": Path(name).stem, "score": found.classes[0].score,
            "verdict": found.classes[0].verdict, "seconds": seconds,
        }  # fmt: skip
        print(json.dumps(row), flush=True)
    print(json.dumps({"peak_mib": resident_mib("VmHWM")}), flush=True)


def compared(row: dict[str, Any], large: Large) -> dict[str, Any]:
    """What was marked on a picture beside the truth."""
    marked = np.unpackbits(np.load(large.picture.with_suffix(".npy")), count=HEIGHT * WIDTH).astype(bool)
    truth = np.zeros(marked.shape, bool) if large.mask is None else read_mask(large.mask).ravel()
    return row | {
        "defect": large.mask is not None, "share": float(truth.mean()), "marked": float(marked.mean()),
        "hit": float((marked & truth).sum() / max(1, truth.sum())),
    }  # fmt: skip


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """AUROC of pictures; defects called where at most one good picture in `ASKED` is, in all and by size."""
    bad, good = rows[rows["defect"]], rows[~rows["defect"]]
    limit = float(np.sort(good["score"])[::-1][max(0, round(len(good) / ASKED) - 1)])
    called = bad["score"] > limit
    low = 0.0
    by_size = {}
    for name, high in SIZES.items():
        some = called[(bad["share"] > low) & (bad["share"] <= high)]
        by_size[name], low = (
            {"defects": len(some), "called": 100 * float(some.mean()) if len(some) else None},
            high,
        )
    return {
        "auroc": auroc(rows),
        "called": 100 * float(called.mean()), "good called": 100 * float((good["score"] > limit).mean()),
        "by size": by_size, "NG": 100 * float((bad["verdict"] == "NG").mean()),
        "good NG": 100 * float((good["verdict"] == "NG").mean()),
        "marked of the defect": 100 * float(bad["hit"].mean()),
        "seconds": float(rows["seconds"].median()), "slowest": float(rows["seconds"].max()),
    }  # fmt: skip


def main(
    cls: Annotated[str, typer.Argument(metavar="CLASS", help="A class with good parts.")] = "KSDD",
    seed: Annotated[int, typer.Option(min=0, help="Of what lies where.")] = 0,
    out: Annotated[
        Path, typer.Option(help="Folder: large pictures, classes, rows, and a JSON with every value.")
    ] = Path("artifacts/benchmarks/resolution"),
    inspect: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Enrol a class in both ways, inspect large pictures, and print a table."""
    folder = folder_of(out, cls, seed)
    catalog = build_catalog(layout.DATA, out / "catalog.parquet")
    rows = catalog[catalog["cls"] == cls].sort_values("image")
    large = make(folder, rows, seed)
    asked = [*large["asked marked"], *large["asked good"]]
    if inspect:
        ask(folder, inspect, cls, [str(one.picture) for one in asked])
        return
    enrolled(cls, rows, large, folder)
    found: dict[str, Any] = {}
    for way in (SQUARES, SQUASHED):
        command = [
            sys.executable,
            "-m",
            "benchmarks.resolution",
            cls,
            "--seed",
            str(seed),
            "--out",
            str(out),
            "--inspect",
            way,
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        *lines, last = map(json.loads, done.stdout.splitlines())
        table = pd.DataFrame([compared(row, one) for row, one in zip(lines, asked, strict=True)])
        table.to_csv(folder / f"{way}.csv", index=False)
        found[way] = summary(table) | last
    write_json(folder / "resolution.json", {
        "machine": machine(), "data": layout.data_md5(), "seed": seed, "class": cls, "pictures": len(asked),
        "size": [WIDTH, HEIGHT], "ways": found,
    })  # fmt: skip
    typer.echo(json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
