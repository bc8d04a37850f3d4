"""The data and the state of the pipeline, as DVC tells and fetches them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from flows.dvc import CHILDREN, StageError, run_dvc
from flows.graph import read_graph
from lerenet import layout
from lerenet.params import load_params
from lerenet.tracking.git import git

PULLING = layout.CHECKPOINTS / "pulling"  # while the data are fetched, and after a fetch that was killed


def changed_stages() -> list[str]:
    """The stages that ``dvc status`` finds changed; those below them are not forecast."""
    return list(_status())


def _status(*targets: str) -> dict[str, list[Any]]:
    """What ``dvc status`` finds changed: stage -> what of it."""
    lines = [line for line in run_dvc("status", "--json", *targets).splitlines() if line.startswith("{")]
    return {stage: changes for line in lines for stage, changes in json.loads(line).items()}


def is_clean() -> bool:
    """Whether ``dvc status`` finds nothing to run."""
    return not changed_stages()


def add_data() -> None:
    """Record the data folder with DVC: its hash into ``data.dvc``, its files into the cache.

    Raises:
        StageLocked: another DVC process works with the data.
        StageError: DVC can't record them.
    """
    CHILDREN.reset()
    run_dvc("add", "--quiet", "data")


def has_remote() -> bool:
    """Whether the project has a default DVC remote."""
    return any("(default)" in line for line in run_dvc("remote", "list").splitlines())


def pull_data() -> str:
    """Fetch ``data`` from the remote where ``data.dvc`` names others than those here.

    Local changes stay and are used: images that were added, edited or removed. A fetch that was killed is
    finished first.
    """
    if not Path("data.dvc").exists() or not has_remote():
        return "no remote: the local data are used"
    if layout.DATA.is_dir() and not PULLING.exists():
        if "data.dvc" not in _status("data.dvc"):
            return "the data are those of data.dvc"
        if not _as_read_last():
            return "the local data were changed and are used as they are"
    PULLING.parent.mkdir(exist_ok=True)
    PULLING.touch()  # until the files are whole; the watcher leaves them alone meanwhile
    try:
        said = run_dvc("pull", "data.dvc")
    except StageError as error:
        if "without a confirmation" not in str(error):
            raise
        said = "the local data were changed and are used as they are"
    PULLING.unlink()
    return said


def _as_read_last() -> bool:
    """Whether the data folder is the one that the pipeline read last (``dvc.lock``)."""
    changes = _status("catalog").get("catalog", [])
    changed = [deps for one in changes if isinstance(one, dict) for deps in [one.get("changed deps", {})]]
    return not any(layout.DATA.as_posix() in deps for deps in changed)


def push() -> str:
    """Send what DVC holds to the remote, when there is one."""
    return run_dvc("push") if has_remote() else "no remote: nothing pushed"


def garbage(kept: Sequence[str]) -> list[Path]:
    """Files of DVC's cache that neither the project, its branches, tags and experiments nor ``kept`` data need.

    Args:
        kept: hashes of data, as ``data.dvc`` holds them.
    """
    said = _gc(kept, "--dry").splitlines()
    return [
        path for line in said if line.startswith(GONE) if (path := Path(line.removeprefix(GONE))).is_file()
    ]


def collect_garbage(kept: Sequence[str]) -> None:
    """Remove what `garbage` finds."""
    _gc(kept)


GONE = "Removing "  # as DVC says it
AUTHOR = ("-c", "user.name=lerenet", "-c", "user.email=lerenet@localhost")


def _gc(kept: Sequence[str], *words: str) -> str:
    """``dvc gc``, where it takes nothing that somebody needs.

    Raises:
        StageError: a cache that other projects may share, a ``dvc.lock`` that lacks stages, or a table under way.
    """
    _require_whole()
    cache = Path(run_dvc("cache", "dir").strip())
    if Path.cwd() / ".dvc" not in cache.parents:
        raise StageError(
            f"{cache}: DVC's cache may serve other projects; prune it by hand: `dvc gc --projects`"
        )
    with TemporaryDirectory(prefix="lerenet-") as name:  # DVC keeps what another project on its cache uses
        folder = Path(name)
        history = git("rev-parse", "--show-toplevel") is not None
        if history:
            words = ("--all-branches", "--all-tags", "--all-experiments", *words)
            git("init", "--quiet", folder=folder)  # all that are named must be in git, then, with a commit
            git(*AUTHOR, "commit", "--quiet", "--allow-empty", "--message", "empty", folder=folder)
        (folder / ".dvc").mkdir()
        config = f"[core]\n    no_scm = {str(not history).lower()}\n[cache]\n    dir = {cache}\n"
        (folder / ".dvc" / "config").write_text(config)
        for place, md5 in enumerate(kept):
            if (cache / "files" / "md5" / md5[:2] / md5[2:]).is_file():
                (folder / f"{place}.dvc").write_text(f"outs:\n- md5: {md5}\n  hash: md5\n  path: '{place}'\n")
        return run_dvc("gc", "--force", "--workspace", *words, "--projects", name)


def _require_whole() -> None:
    """Refuse while something made is not written down yet: it would be taken for garbage."""
    if Path("dvc.yaml").exists():
        lacking = sorted(set(read_graph()) - locked) if (locked := _locked()) else ["all"]
        if lacking:
            raise StageError(f"dvc.lock lacks stages ({lacking[0]} …) or is torn: `dvc repro` first")
    tables = load_params(layout.PARAMS).tables if layout.PARAMS.exists() else ()
    for name in tables:
        if (attempt := layout.CHECKPOINTS / name / "attempt.json").exists():
            raise StageError(f"{name} is under way, or was cut short: finish it first, or remove {attempt}")


def _locked() -> set[str]:
    """The stages in ``dvc.lock``; none of one that a kill has torn."""
    try:
        text = Path("dvc.lock").read_text(encoding="utf-8")
        return set(yaml.safe_load(text)["stages"])
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return set()
