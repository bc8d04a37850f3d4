"""What a call or an inspection has marked, read again from its files, as files of other tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lerenet.annotations.regions import AnnotatedImage, Region
from lerenet.annotations.writing import documents
from lerenet.data.images import read_image
from lerenet.files import atomic_path
from lerenet.predict.journal import Journal
from lerenet.predict.names import MARKS, MASK
from lerenet.predict.results import Predictions, sha256

if TYPE_CHECKING:
    from lerenet.predict.inspected import Inspected

DEFECT = "defect"  # the class of what a call marks: its examples are of one kind, which has no name


@dataclass(frozen=True)
class Marked:
    """Images of whose pixels some are marked; each time they are gone through, their files are read anew.

    Args:
        folder: of the files.
        files: of grey values, each with the output name and the path of its image.
        scores: of each image, by class.
        classes: names by grey value.
    """

    folder: Path
    files: Sequence[tuple[str, str, str]]
    scores: Sequence[dict[str, float]]
    classes: dict[int, str]

    def __iter__(self) -> Iterator[tuple[str, AnnotatedImage]]:
        for (file, name, image), scores in zip(self.files, self.scores, strict=True):
            values = read_image(self.folder / file)[..., 0]
            regions = (Region(cls, values == value, scores[cls]) for value, cls in self.classes.items())
            height, width = values.shape
            yield (
                name,
                AnnotatedImage(image, (height, width), tuple(one for one in regions if one.mask.any())),
            )


def write_annotations(predictions: Predictions, journal: Journal, formats: Sequence[str]) -> dict[str, str]:
    """Write a call's masks in other formats into its folder; names and SHA-256 of the files.

    Raises:
        OSError, LerenetError: the folder can't be written.
    """
    rows = [row for row in predictions.predictions if row.mask]
    files = [(row.mask, row.mask.removesuffix(MASK), row.query) for row in rows]
    marked = Marked(journal.out, files, [{DEFECT: row.confidence} for row in rows], {255: DEFECT})
    made_by = f"{predictions.model} {predictions.version}".strip()
    written = {}
    for name, content in documents(formats, marked, [DEFECT], made_by, journal.out):
        journal.announce(name, content)
        with atomic_path(journal.out / name) as temporary:
            temporary.write_bytes(content)
        written[name] = sha256(content)
    return written


def annotate(
    rows: Sequence[Inspected],
    classes: Sequence[str],
    made_by: str,
    folder: Path,
    out: Path,
    formats: Sequence[str],
) -> dict[str, str]:
    """Write an inspection's marks in other formats into ``folder``, which becomes ``out``; names and SHA-256."""
    seen = [row for row in rows if row.marks]
    files = [(row.marks, row.marks.removesuffix(MARKS), row.image) for row in seen]
    scores = [{one.name: one.score for one in row.classes} for row in seen]
    marked = Marked(folder, files, scores, dict(enumerate(classes, 1)))
    written = {}
    for name, content in documents(formats, marked, classes, made_by, out):
        (folder / name).write_bytes(content)
        written[name] = sha256(content)
    return written
