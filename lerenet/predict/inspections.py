"""What an inspection leaves: marks and overlay of each photo and a table of verdicts, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lerenet.annotations.writing import file_names
from lerenet.data.encoding import encode_png
from lerenet.drawing import overlay_png
from lerenet.enrolment.enrolled import Enrolled
from lerenet.enrolment.inspect import ClassVerdict, Inspector
from lerenet.errors import DataError
from lerenet.files import atomic_dir, read_json, sha256_file, shown, write_json
from lerenet.inference import read_query
from lerenet.predict.annotating import annotate
from lerenet.predict.names import MARKS, OVERLAY, output_names
from lerenet.registry.lineage_mask import INSPECTIONS

TABLE = "inspections.csv"


@dataclass(frozen=True)
class Inspected:
    """One photo; ``error`` says why it could not be inspected, and then the rest is empty."""

    image: str
    verdict: str
    classes: tuple[ClassVerdict, ...]
    marks: str
    overlay: str
    error: str = ""
    sha256: str = ""
    marks_sha256: str = ""


def inspect_all(
    inspector: Inspector,
    images: Sequence[Path],
    out: Path,
    mark_good: bool = False,
    bits: int = 0,
    formats: Sequence[str] = (),
    tick: Callable[..., None] = lambda done=1, note=None: None,
) -> list[Inspected]:
    """Inspect photos and write ``out``, in the place of an earlier inspection.

    Args:
        inspector: network and classes.
        images: the photos' files.
        out: folder.
        mark_good: see `Inspector`.
        bits: see `lerenet.data.reading.Reading`.
        formats: other tools' formats to write, too (`lerenet.annotations.writing.WRITTEN`).
        tick: told after each photo.

    Raises:
        DataError: ``out`` holds what no inspection wrote; a format that is not written.
        LerenetError: ``out`` can't be written.
    """
    _require_ours(out)
    rows, names = [], output_names(images)
    file_names(formats, names)
    with atomic_dir(out) as folder:
        for path, name in zip(images, names, strict=True):
            rows.append(_one(inspector, path, name, folder, mark_good, bits))
            tick(1)
        made_by = f"{inspector.loaded.source} {inspector.loaded.version}".strip()
        annotations = annotate(rows, [one.name for one in inspector.classes], made_by, folder, out, formats)
        write_json(folder / INSPECTIONS, {
            "classes": [_class(number, one) for number, one in enumerate(inspector.classes, 1)],
            "network": inspector.loaded.source, "version": inspector.loaded.version,
            "images": [asdict(row) for row in rows], "annotations": annotations,
        })  # fmt: skip
        pd.DataFrame([_flat(row) for row in rows]).to_csv(folder / TABLE, index=False)
    return rows


def _one(inspector: Inspector, path: Path, name: str, folder: Path, mark_good: bool, bits: int) -> Inspected:
    try:
        picture = read_query(path, bits)
    except DataError as error:
        return Inspected(shown(path), "", (), "", "", shown(f"{error.what}; {error.remedy}"))
    inspection = inspector(picture, mark_good)
    marks = folder / f"{name}{MARKS}"
    marks.write_bytes(encode_png(inspection.marks))
    (folder / f"{name}{OVERLAY}").write_bytes(overlay_png(picture, np.asarray(inspection.marks > 0)))
    return Inspected(
        shown(path), inspection.verdict, inspection.classes, marks.name, name + OVERLAY,
        sha256=sha256_file(path), marks_sha256=sha256_file(marks),
    )  # fmt: skip


def _class(number: int, one: Enrolled) -> dict[str, object]:
    """A class, and the images that it was learnt from."""
    given = {kind: [asdict(image) for image in getattr(one, kind)] for kind in ("examples", "good")}
    return {"number": number, "name": one.name, "reader": one.reader, **given}


def _flat(row: Inspected) -> dict[str, object]:
    flat: dict[str, object] = {
        name: getattr(row, name) for name in ("image", "verdict", "marks", "overlay", "error")
    }
    for one in row.classes:
        flat |= {f"{one.name} verdict": one.verdict, f"{one.name} score": round(one.score, 4)}
        flat[f"{one.name} share"] = round(one.share, 6)
    return flat


def _require_ours(out: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    table = out / INSPECTIONS
    about = read_json(table) if table.is_file() else {}
    images = about.get("images", []) if table.is_file() else None
    ours = {
        INSPECTIONS,
        TABLE,
        *about.get("annotations", ()),
        *(row[key] for row in images or [] for key in ("marks", "overlay")),
    }
    if images is None or not out.is_dir() or {path.name for path in out.iterdir()} - ours:
        raise DataError(f"{shown(out)}: holds what no inspection wrote", "name another folder with --out")
