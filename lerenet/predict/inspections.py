"""What an inspection leaves: marks and overlay of each photo, tables of verdicts and defects, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from lerenet.annotations.writing import file_names
from lerenet.data.encoding import encode_png
from lerenet.data.images import Pixels
from lerenet.drawing import overlay_png
from lerenet.enrolment.inspect import Inspector
from lerenet.errors import DataError
from lerenet.files import sha256_file, shown
from lerenet.inference import read_query
from lerenet.measure.cameras import Camera, Cameras
from lerenet.measure.defects import measure
from lerenet.measure.judging import judge
from lerenet.measure.probability import probability_png
from lerenet.measure.rules import Rules
from lerenet.predict.annotating import annotate
from lerenet.predict.inspected import Inspected, require_ours, write_tables
from lerenet.predict.journal import writing
from lerenet.predict.names import MARKS, OVERLAY, output_names
from lerenet.predict.partial import begun, digest_of

PROBABILITY = "_prob.png"  # no longer than `OVERLAY`, for which names leave room


@dataclass(frozen=True)
class Manner:
    """How photos are inspected.

    Attributes:
        mark_good: keep marks of classes that call an image OK, or of another surface.
        bits: that the camera uses of 16-bit images; 0: as the classes were enrolled with, or by the values.
        probability: write the probability of each pixel.
        rules: what is measured and what it means; as they are, each class's own verdict decides.
        formats: other tools' formats to write, too (`lerenet.annotations.writing.WRITTEN`).
        cameras: what is known of those that photos come from; it goes before ``bits``, the rules' scale, and the
            inspector's.
    """

    mark_good: bool = False
    bits: int = 0
    probability: bool = False
    rules: Rules = field(default_factory=Rules)
    formats: tuple[str, ...] = ()
    cameras: Cameras = field(default_factory=Cameras)


def inspect_all(
    inspector: Inspector,
    images: Sequence[Path],
    out: Path,
    manner: Manner | None = None,
    tick: Callable[..., None] = lambda done=1, note=None: None,
) -> list[Inspected]:
    """Inspect photos and write ``out``, in the place of an earlier inspection; interrupted, the same call goes on.

    Args:
        inspector: network and classes.
        images: the photos' files.
        out: folder.
        manner: how; as a plain `Manner` where not given.
        tick: told after each photo.

    Raises:
        DataError: ``out`` holds what no inspection wrote; a format that is not written.
        LerenetError: ``out`` can't be written, or another inspection is at work there.
        KeyboardInterrupt: Ctrl-C; it says how many photos are done.
    """
    require_ours(out)
    manner = manner or Manner()
    rows, tables, names = [], [], output_names(images)
    file_names(manner.formats, names)
    with begun(out, digest_of(inspector, manner)) as partial:
        try:
            for path, name in zip(images, names, strict=True):
                found = partial.kept(name, path)
                if found is None:
                    found = _one(inspector, path, name, partial.folder, manner)
                    with writing(out):
                        partial.add(name, found)
                row, defects = found
                rows.append(row)
                if len(defects):
                    tables.append(defects.assign(image=row.image))
                tick(1)
            with partial.become(out, rows) as folder:
                made_by = f"{inspector.loaded.source} {inspector.loaded.version}".strip()
                classes = [one.name for one in inspector.classes]
                annotations = annotate(rows, classes, made_by, folder, out, manner.formats)
                write_tables(folder, inspector, rows, tables, manner.rules, annotations)
        except KeyboardInterrupt:
            done = f"{len(rows)} of {len(images)} photos are inspected; the same command goes on"
            raise KeyboardInterrupt(done) from None
    return rows


def _one(
    inspector: Inspector, path: Path, name: str, folder: Path, manner: Manner
) -> tuple[Inspected, pd.DataFrame]:
    """A photo's row, with its files in ``folder``, and its defects."""
    camera = manner.cameras.of(path) or Camera(photos="*")
    try:
        digest, picture = _read(path, manner.bits or inspector.bits if camera.bits is None else camera.bits)
        within = camera.within(picture.shape[0], picture.shape[1])
        found = inspector(picture, manner.mark_good, within, camera.scale)
    except DataError as error:
        return Inspected(shown(path), "", (), "", "", shown(f"{error.what}; {error.remedy}")), pd.DataFrame()
    marks, overlay, probability = (name + ending for ending in (MARKS, OVERLAY, PROBABILITY))
    with writing(folder):
        (folder / marks).write_bytes(encode_png(found.marks))
        (folder / overlay).write_bytes(overlay_png(picture, np.asarray(found.marks > 0)))
        if manner.probability:
            (folder / probability).write_bytes(probability_png(found.probability))
    names = [one.name for one in inspector.classes]
    measuring = manner.rules.measure
    if camera.mm_per_pixel is not None:
        measuring = measuring.model_copy(update={"mm_per_pixel": camera.mm_per_pixel})
    defects = measure(found.marks, found.probability, names, measuring, manner.rules.rectangles)
    decision = judge(found.classes, defects, manner.rules)
    return Inspected(
        shown(path), found.verdict, found.classes, marks, overlay,
        sha256=digest, marks_sha256=sha256_file(folder / marks),
        probability=probability if manner.probability else "",
        decision=decision.result, reason=decision.reason, defects=len(defects), mm_per_pixel=measuring.mm_per_pixel,
    ), defects  # fmt: skip


def _read(path: Path, bits: int) -> tuple[str, Pixels]:
    """SHA-256 and pixels of a photo: two readings of one file.

    Raises:
        DataError: it can't be read, or changed meanwhile.
    """
    try:
        before = sha256_file(path)
        picture = read_query(path, bits)
        if sha256_file(path) == before:
            return before, picture
    except OSError as error:
        raise DataError(
            f"{shown(path)}: can't be read: {error.strerror or error}", "check the file"
        ) from error
    raise DataError(f"{shown(path)}: changed while it was read", "run again when nothing writes there")
