"""Cells that were evaluated on other days or machines: what the report reads of them, in one file that travels.

A table of the paper takes days on a small machine. Each cell that is done goes into a file (``.tar.xz``: counts,
scores, curve, settings, run; neither weights nor pictures), from which a later call takes up what is missing and
`lerenet results` writes one page of all. A cell says itself of which episodes, settings, commit and machine it is;
the commit is told, and not compared.
"""

from __future__ import annotations

import io
import json
import lzma
import shutil
import tarfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lerenet.errors import DataError
from lerenet.files import alone, atomic_path, read_json

STAGES = ("evaluate", "floors", "train")
READ = (
    "about.json", "counts.parquet", "curve.csv", "likeness.parquet", "metrics.json", "model/config.json", "run.json",
    "summary.json",
)  # fmt: skip
BESIDE = ("*.safetensors", "masks.npz", "*.html")  # large, and no number of the page
Members = dict[str, bytes]  # path below ``artifacts/`` -> content


def read(archive: Path) -> Members:
    """What the file holds; nothing where there is none.

    Raises:
        DataError: it can't be read, or holds something else.
    """
    found: Members = {}
    if not archive.exists():
        return found
    try:
        with tarfile.open(archive, "r:xz") as file:
            for member in file:
                stage, _, rest = member.name.partition("/")
                key, _, name = rest.partition("/")
                content = file.extractfile(member) if member.isfile() else None
                if stage not in STAGES or key in ("", "..") or name not in READ or content is None:
                    raise DataError(
                        f"{archive}: {member.name} is nothing that an evaluated cell leaves",
                        "give a file that `--kept` of `python -m flows.tables` wrote",
                    )
                found[member.name] = content.read()
    except (OSError, EOFError, lzma.LZMAError, tarfile.TarError) as error:
        raise DataError(
            f"{archive}: not a readable .tar.xz ({error})", "copy it again, or begin a new one"
        ) from error
    return found


def keep(artifacts: Path, archive: Path, keys: Collection[str] | None = None) -> list[str]:
    """Put evaluated cells below ``artifacts`` into the file, instead of earlier ones of the same names.

    Args:
        keys: of the cells; None: all, and the floors.

    Returns:
        what was put there.
    """
    put = []
    with alone(archive.absolute().parent):
        members = read(archive)
        for summary in sorted(
            path for stage in STAGES[:2] for path in artifacts.glob(f"{stage}/*/summary.json")
        ):
            key = summary.parent.name
            if keys is not None and key not in keys:
                continue
            places = (summary.parent, artifacts / "train" / key)
            members = {name: data for name, data in members.items() if name.split("/")[1] != key}
            members |= {
                (place / name).relative_to(artifacts).as_posix(): (place / name).read_bytes()
                for place in places
                for name in READ
                if (place / name).is_file()
            }
            put.append(key)
        if put:
            _write(members, archive)
    return put


def _write(members: Members, archive: Path) -> None:
    """Sorted and without dates or owners: the same cells make the same file."""
    with (
        atomic_path(archive) as temporary,
        tarfile.open(temporary, "w:xz", format=tarfile.PAX_FORMAT) as file,
    ):
        for name in sorted(members, key=lambda path: (path.rpartition("/")[2], path)):  # like beside like
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(members[name]), 0o644
            file.addfile(info, io.BytesIO(members[name]))


def cells(members: Members) -> dict[str, dict[str, str]]:
    """Key of each evaluated cell -> what it says of itself: ``episodes`` and ``settings``, digests, and more."""
    return {
        name.split("/")[1]: json.loads(data)
        for name, data in members.items()
        if name.startswith("evaluate/") and name.endswith("/about.json")
    }


@contextmanager
def beside(artifacts: Path, archives: Iterable[Path]) -> Iterator[Path]:
    """A folder with what ``artifacts`` holds for the report, and the cells of the files that it lacks.

    A cell is there where it was evaluated on the episodes of ``artifacts/folds``; of those in several files the last
    file's counts.

    Raises:
        DataError: see `read`; or there are no folds to say which episodes are today's.
    """
    digest = todays_episodes(artifacts)
    with TemporaryDirectory(prefix="lerenet-results-") as folder:
        root = Path(folder) / "artifacts"
        shutil.copytree(artifacts, root, ignore=shutil.ignore_patterns(*BESIDE))
        there = {
            path.parent.name
            for path in root.glob("*/*/about.json")
            if read_json(path).get("episodes") == digest and (path.parent / "summary.json").exists()
        }
        for members in map(read, archives):
            fresh = {
                name.split("/")[1]
                for name, data in members.items()
                if name.endswith("/about.json") and json.loads(data).get("episodes") == digest
            } - there
            for name, data in members.items():
                if name.split("/")[1] in fresh:
                    path = root / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
        for name in ("params.yaml", "data.dvc"):
            if (artifacts.parent / name).exists():
                shutil.copyfile(artifacts.parent / name, root.parent / name)
        yield root


def todays_episodes(artifacts: Path) -> str:
    """Digest of the frozen episodes below ``artifacts``.

    Raises:
        DataError: there are none.
    """
    folds = artifacts / "folds" / "folds.json"
    if not folds.exists():
        raise DataError(
            f"{folds}: not found, so nothing says which cells are of these data", "run `dvc repro folds`"
        )
    return str(read_json(folds)["digest"])
