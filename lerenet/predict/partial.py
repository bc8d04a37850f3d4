"""An inspection under way, in a hidden folder beside the one that it becomes: interrupted, the same call goes on.

Each photo's files are written first, then a line of the journal with what was found, so a line is true or missing. What
was found by other classes, settings or photos is not taken up.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lerenet.enrolment.inspect import ClassVerdict, Inspector
from lerenet.enrolment.material import described_by
from lerenet.errors import LerenetError
from lerenet.files import atomic_dir, sha256_file, shown
from lerenet.measure.defects import COLUMNS
from lerenet.predict.inspected import PICTURES, Inspected
from lerenet.predict.journal import writing

if TYPE_CHECKING:
    from lerenet.predict.inspections import Manner

JOURNAL = "journal.jsonl"
Found = tuple[Inspected, pd.DataFrame]  # a photo's row, and its defects


class Partial:
    """The folder of an inspection under way, and what its journal says.

    Args:
        folder: hidden, beside the one that the inspection becomes.
        digest: of all that decides the rows beside the photos (`digest_of`); a journal of another is dropped.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder, self.journal = folder, folder / JOURNAL
        lines = _lines(self.journal)
        if not lines or lines[0].get("digest") != digest:
            for path in folder.iterdir():
                path.unlink()
            self._append({"digest": digest})
        self._kept: dict[tuple[str, str], dict[str, Any]] = {
            (line["name"], line["row"]["image"]): line for line in lines[1:] if "row" in line
        }

    def kept(self, name: str, photo: Path) -> Found | None:
        """What was found on a photo of this output name before, if neither the photo nor its files changed since."""
        line = self._kept.get((name, shown(photo)))
        if line is None or not photo.is_file() or sha256_file(photo) != line["row"]["sha256"]:
            return None
        row = Inspected(
            **{**line["row"], "classes": tuple(ClassVerdict(**one) for one in line["row"]["classes"])}
        )
        files = [self.folder / getattr(row, column) for column in PICTURES if getattr(row, column)]
        if (
            not all(path.is_file() for path in files)
            or sha256_file(self.folder / row.marks) != row.marks_sha256
        ):
            return None
        return row, pd.DataFrame(line["defects"], columns=list(COLUMNS))

    def add(self, name: str, found: Found) -> None:
        """Note what was found on a photo whose files are written; one that could not be read is tried again."""
        row, defects = found
        if not row.error:
            self._append({"name": name, "row": asdict(row), "defects": defects.to_dict("records")})

    @contextmanager
    def become(self, out: Path, rows: Sequence[Inspected]) -> Iterator[Path]:
        """The folder that takes the place of ``out`` when the block succeeds, with the files of ``rows``."""
        with atomic_dir(out) as whole:
            for row in rows:
                for name in (getattr(row, column) for column in PICTURES if getattr(row, column)):
                    os.replace(self.folder / name, whole / name)
            yield whole

    def _append(self, value: dict[str, Any]) -> None:
        with self.journal.open("ab") as handle:
            handle.write(json.dumps(value).encode() + b"\n")


def _lines(journal: Path) -> list[dict[str, Any]]:
    """The journal's whole lines; a kill may have torn the last one."""
    found = []
    for line in journal.read_bytes().split(b"\n") if journal.exists() else ():
        with suppress(ValueError):
            found.append(json.loads(line))
    return [value for value in found if isinstance(value, dict)]


@contextmanager
def begun(out: Path, digest: str) -> Iterator[Partial]:
    """The inspection under way that becomes ``out``; it stays if the block fails, and goes with the journal if not.

    Raises:
        LerenetError: another inspection is at work there, or the folder can't be written.
    """
    real = Path(os.path.realpath(out))
    folder = real.with_name(f".inspecting-{hashlib.sha256(os.fsencode(real.name)).hexdigest()[:16]}")
    with writing(out):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            _claim(handle, out)
            try:
                yield Partial(folder, digest)
                shutil.rmtree(folder)
            finally:
                if not any("row" in line for line in _lines(folder / JOURNAL)):
                    shutil.rmtree(folder, ignore_errors=True)  # nothing to go on from
        finally:
            os.close(handle)


def _claim(handle: int, out: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LerenetError(
            f"{shown(out)}: another `lerenet inspect` is at work there",
            "wait for it, or choose another --out",
        ) from error
    except OSError:  # a file system without locks
        return


def digest_of(inspector: Inspector, manner: Manner) -> str:
    """Hex SHA-256 of all that decides what is found on a photo: network, classes as they were learnt, manner."""
    hasher = hashlib.sha256()
    said = {
        "network": described_by(inspector.loaded), "version": inspector.loaded.version,
        "size": inspector.loaded.image_size, "mark_good": manner.mark_good, "bits": manner.bits,
        "probability": manner.probability, "rules": manner.rules.model_dump(mode="json", by_alias=True),
    }  # fmt: skip
    hasher.update(json.dumps(said, sort_keys=True).encode())
    for one in inspector.classes:
        facts = [one.name, one.reader, one.surface, None if one.point is None else asdict(one.point)]
        facts += [asdict(image) for image in (*one.examples, *one.good)]
        hasher.update(json.dumps(facts, sort_keys=True).encode())
        for head in (*one.heads.values(), *one.shared.values()):
            for value in head.state_dict().values():
                hasher.update(value.cpu().numpy().tobytes())
        for value in (one.memory.sums, one.memory.foreground, one.memory.good):
            hasher.update(value.cpu().numpy().tobytes())
    return hasher.hexdigest()
