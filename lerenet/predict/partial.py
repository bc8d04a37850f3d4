"""An inspection under way, in a hidden folder beside the one that it becomes: interrupted, the same call goes on.

Each photo's files are written first, then a line of the journal with what was found and the files' digests, so a line
is true or is not taken up. What was found by other code, classes or settings, or on other photos, is not taken up.
"""

from __future__ import annotations

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

from lerenet.device import pick_device
from lerenet.enrolment.inspect import ClassVerdict, Inspector
from lerenet.enrolment.material import described_by
from lerenet.enrolment.memory import TENSORS
from lerenet.enrolment.stored import code_digest
from lerenet.files import atomic_dir, sha256_file, shown
from lerenet.measure.defects import COLUMNS
from lerenet.predict.inspected import PICTURES, Inspected
from lerenet.predict.journal import locked, writing

if TYPE_CHECKING:
    from lerenet.predict.inspections import Manner

JOURNAL = "journal.jsonl"
Found = tuple[Inspected, pd.DataFrame]  # a photo's row, and its defects


def files_of(row: Inspected) -> list[str]:
    """Names of the files that a photo's row tells of."""
    return [name for column in PICTURES if (name := getattr(row, column))]


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
            lines = []
        self._kept: dict[tuple[str, str], dict[str, Any]] = {
            (line["name"], line["row"]["image"]): line for line in lines[1:]
        }

    def kept(self, name: str, photo: Path) -> Found | None:
        """What was found on a photo of this output name before, if neither the photo nor a file of it changed since."""
        line = self._kept.get((name, shown(photo)))
        if line is None:
            return None
        try:
            if sha256_file(photo) != line["row"]["sha256"]:
                return None
            classes = tuple(ClassVerdict(**one) for one in line["row"]["classes"])
            row = Inspected(**{**line["row"], "classes": classes})
            if any(sha256_file(self.folder / file) != line["files"][file] for file in files_of(row)):
                return None
        except (OSError, KeyError, TypeError):
            return None
        return row, pd.DataFrame(line["defects"], columns=list(COLUMNS))

    def add(self, name: str, found: Found) -> None:
        """Note what was found on a photo whose files are written; one that could not be read is tried again."""
        row, defects = found
        if not row.error:
            files = {file: sha256_file(self.folder / file) for file in files_of(row)}
            line = {"name": name, "row": asdict(row), "files": files, "defects": defects.to_dict("records")}
            self._append(line)

    @contextmanager
    def become(self, out: Path, rows: Sequence[Inspected]) -> Iterator[Path]:
        """The folder that takes the place of ``out`` when the block succeeds, with the files of ``rows``."""
        with atomic_dir(out) as whole:
            for name in (name for row in rows for name in files_of(row)):
                try:
                    os.link(self.folder / name, whole / name)
                except OSError:  # a file system without links
                    shutil.copyfile(self.folder / name, whole / name)
            yield whole

    def _append(self, value: dict[str, Any]) -> None:
        with self.journal.open("a+b") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - 1))
            torn = size and handle.read(1) != b"\n"
            handle.write(b"\n" * bool(torn) + json.dumps(value).encode() + b"\n")


def _lines(journal: Path) -> list[dict[str, Any]]:
    """The journal's whole lines; a kill may have torn one."""
    found = []
    for line in journal.read_bytes().split(b"\n") if journal.exists() else ():
        with suppress(ValueError):
            found.append(json.loads(line))
    return [value for value in found if isinstance(value, dict)]


@contextmanager
def begun(out: Path, digest: str) -> Iterator[Partial]:
    """The inspection under way that becomes ``out``; it goes when the block succeeds, and stays if not.

    Raises:
        LerenetError: another inspection is at work there, or the folder can't be written.
    """
    real = Path(os.path.realpath(out))
    folder = real.with_name(f".inspecting-{hashlib.sha256(os.fsencode(real.name)).hexdigest()[:16]}")
    with writing(out):
        handle = locked(folder, _opened, out, "inspect")
    try:
        with writing(out):
            partial = Partial(folder, digest)
        yield partial
        shutil.rmtree(folder)
    except BaseException:
        if not any("row" in line for line in _lines(folder / JOURNAL)):
            shutil.rmtree(folder, ignore_errors=True)  # nothing to go on from
        raise
    finally:
        os.close(handle)


def _opened(folder: Path) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # its owner is done and removes it
            return os.open(folder, os.O_RDONLY)


def digest_of(inspector: Inspector, manner: Manner) -> str:
    """Hex SHA-256 of all that decides what is found on a photo: code, device, network, classes as learnt, manner."""
    hasher = hashlib.sha256()
    said = {
        "code": code_digest("measure", "predict"), "device": pick_device().type,
        "network": described_by(inspector.loaded), "version": inspector.loaded.version,
        "size": inspector.loaded.image_size, "scale": inspector.scale, "bits": manner.bits or inspector.bits,
        "mark_good": manner.mark_good, "cameras": manner.cameras.said(), "probability": manner.probability,
        "rules": manner.rules.model_dump(mode="json", by_alias=True),
    }  # fmt: skip
    hasher.update(json.dumps(said, sort_keys=True).encode())
    for one in inspector.classes:
        facts = [one.name, one.reader, one.surface, None if one.point is None else asdict(one.point)]
        facts += [
            one.side,
            dict(one.quiet),
            *(asdict(image) for image in (*one.examples, *one.good)),
        ]
        hasher.update(json.dumps(facts, sort_keys=True).encode())
        for head in (*one.heads.values(), *one.shared.values()):
            for value in head.state_dict().values():
                hasher.update(value.cpu().numpy().tobytes())
        for name in TENSORS:
            hasher.update(getattr(one.memory, name).cpu().numpy().tobytes())
    return hasher.hexdigest()
