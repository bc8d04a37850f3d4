"""Cells that were evaluated on other days or machines: what the report reads of them, in one file that travels.

A table of the paper takes days on a small machine. Each cell that is done goes into a file (``.tar.xz``: counts,
scores, curve, settings, run; neither weights nor pictures), from which a later call takes up what is missing and
`lerenet results` writes one page of all. A cell says itself of which episodes, data and commit it is.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lerenet.errors import DataError
from lerenet.files import atomic_path

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
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(
            f"{archive}: not a readable .tar.xz ({error})", "copy it again, or begin a new one"
        ) from error
    return found


def keep(artifacts: Path, archive: Path) -> list[str]:
    """Put every evaluated cell below ``artifacts`` into the file, instead of an earlier one of the same name.

    Returns:
        the cells' keys, those of the floors included.
    """
    members, keys = read(archive), []
    for summary in sorted(path for stage in STAGES[:2] for path in artifacts.glob(f"{stage}/*/summary.json")):
        key = summary.parent.name
        places = (summary.parent, artifacts / "train" / key)
        members = {name: data for name, data in members.items() if name.split("/")[1] != key}
        members |= {
            (place / name).relative_to(artifacts).as_posix(): (place / name).read_bytes()
            for place in places
            for name in READ
            if (place / name).is_file()
        }
        keys.append(key)
    _write(members, archive)
    return keys


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


def cells(members: Mapping[str, bytes], digest: str | None = None) -> dict[str, str]:
    """Key of each evaluated cell -> digest of its episodes; with ``digest`` only those of these episodes."""
    found = {
        name.split("/")[1]: str(json.loads(data).get("episodes"))
        for name, data in members.items()
        if name.startswith("evaluate/") and name.endswith("/about.json")
    }
    return {key: own for key, own in found.items() if digest in (None, own)}


@contextmanager
def beside(artifacts: Path, archives: Iterable[Path]) -> Iterator[Path]:
    """A folder with what ``artifacts`` holds for the report, and the cells of the files that it lacks.

    Raises:
        DataError: see `read`.
    """
    given = [read(archive) for archive in archives]
    with TemporaryDirectory(prefix="lerenet-results-") as folder:
        root = Path(folder) / "artifacts"
        shutil.copytree(artifacts, root, ignore=shutil.ignore_patterns(*BESIDE))
        there = {path.name for stage in STAGES for path in root.glob(f"{stage}/*")}
        for members in given:
            for name, data in members.items():
                if name.split("/")[1] not in there:
                    path = root / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
            there |= {name.split("/")[1] for name in members}
        params = artifacts.parent / "params.yaml"
        if params.exists():
            shutil.copyfile(params, root.parent / "params.yaml")
        yield root
