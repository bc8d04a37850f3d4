"""What an inspection says of each photo, the tables that hold it, and which files in a folder are an inspection's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from lerenet.enrolment.enrolled import Enrolled
from lerenet.enrolment.inspect import ClassVerdict, Inspector
from lerenet.errors import DataError, LerenetError
from lerenet.files import read_json, sha256_file, shown, write_json
from lerenet.measure.defects import COLUMNS
from lerenet.measure.rules import Rules
from lerenet.registry.lineage_mask import INSPECTIONS

TABLE, DEFECTS = "inspections.csv", "defects.csv"
DIGITS = "%.6g"  # of what is measured
PICTURES = ("marks", "overlay", "probability")  # columns that name a photo's files


@dataclass(frozen=True)
class Inspected:
    """One photo; ``error`` says why it could not be inspected, and then the rest is empty.

    ``verdict`` is the worst of its classes', ``decision`` what rules make of it (`lerenet.measure.judging`), and
    ``reason`` says why. ``defects``: how many rows of the table of defects are of it. ``probability``: a file, where
    one was asked for. ``mm_per_pixel``: the scale that its defects were measured at.
    """

    image: str
    verdict: str
    classes: tuple[ClassVerdict, ...]
    marks: str
    overlay: str
    error: str = ""
    sha256: str = ""
    marks_sha256: str = ""
    probability: str = ""
    decision: str = ""
    reason: str = ""
    defects: int = 0
    mm_per_pixel: float | None = None


def write_tables(
    folder: Path,
    inspector: Inspector,
    rows: Sequence[Inspected],
    defects: Sequence[pd.DataFrame],
    rules: Rules,
    annotations: Mapping[str, str],
) -> None:
    """Write ``inspections.json``, ``inspections.csv`` and ``defects.csv``.

    Args:
        defects: of each photo that has some, with a column ``image``.
        rules: the decisions are theirs.
        annotations: the files in other tools' formats, with their digests.
    """
    write_json(folder / INSPECTIONS, {
        "classes": [_class(number, one) for number, one in enumerate(inspector.classes, 1)],
        "network": inspector.loaded.source, "version": inspector.loaded.version,
        "images": [asdict(row) for row in rows], "annotations": annotations, "measured": rules.measure.model_dump(),
        "rules": rules.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"measure"}),
    })  # fmt: skip
    pd.DataFrame([_flat(row) for row in rows]).to_csv(folder / TABLE, index=False)
    table = pd.concat(defects) if defects else pd.DataFrame()
    table.reindex(columns=["image", *COLUMNS]).to_csv(folder / DEFECTS, index=False, float_format=DIGITS)


def _class(number: int, one: Enrolled) -> dict[str, object]:
    """A class, and the images that it was learnt from."""
    given = {kind: [asdict(image) for image in getattr(one, kind)] for kind in ("examples", "good")}
    return {"number": number, "name": one.name, "reader": one.reader, **given}


def _flat(row: Inspected) -> dict[str, object]:
    names = ("image", "verdict", "decision", "reason", "defects", *PICTURES, "error")
    flat: dict[str, object] = {name: getattr(row, name) for name in names}
    for one in row.classes:
        flat |= {f"{one.name} verdict": one.verdict, f"{one.name} score": round(one.score, 4)}
        flat[f"{one.name} share"] = round(one.share, 6)
    return flat


def require_ours(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier inspection, as that wrote it.

    Raises:
        DataError: a file that no inspection wrote, or that somebody changed since.
    """
    if not out.resolve().name or out.resolve() == Path.cwd():
        raise DataError(f"{shown(out)}: is no folder that can be replaced", "name a folder with --out")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    written = _written(out / INSPECTIONS) if out.is_dir() else {}
    for path in sorted(out.iterdir()) if written else ():
        if path.name not in written:
            raise DataError(f"{shown(path)}: no inspection wrote it", "name another folder with --out")
        digest = written[path.name]
        if digest and (not path.is_file() or sha256_file(path) != digest):
            raise DataError(
                f"{shown(path)}: was changed since an inspection wrote it",
                "keep it elsewhere, or name another folder with --out",
            )
    if not written:
        raise DataError(f"{shown(out)}: holds what no inspection wrote", "name another folder with --out")


def _written(path: Path) -> dict[str, str]:
    """The files that the inspection wrote whose JSON file this is, and the SHA-256 of those that people correct.

    None where it is no inspection's.
    """
    try:
        about = read_json(path)
        pictures = {row[key]: "" for row in about["images"] for key in PICTURES if row.get(key)}
        pictures |= {row["marks"]: row["marks_sha256"] for row in about["images"] if row["marks"]}
        pictures |= dict(about.get("annotations") or {})
    except (LerenetError, KeyError, TypeError, AttributeError, ValueError):
        return {}
    tables = {INSPECTIONS: "", TABLE: ""} | ({DEFECTS: ""} if "measured" in about else {})
    return tables | pictures
