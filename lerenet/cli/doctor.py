"""``lerenet doctor``: what is set up, what isn't, and what to do about it, in a few seconds.

MLflow and Prefect are not imported (several seconds each): versions come from package metadata,
the champion from the sqlite file. Nothing that could be a credential is printed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from lerenet import layout
from lerenet.cli.champion import Mark, examined
from lerenet.cli.terminal import console, print_json
from lerenet.errors import LerenetError
from lerenet.notify import tell_champion
from lerenet.tracking.store import sqlite_path, tracking_uri

GIGABYTE = 1e9
LITTLE_SPACE, NO_SPACE = 10.0, 1.0  # GB
LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}
STATUS_SECONDS = 60
SERVICES = ("prefect", "mlflow", "worker", "watch")
INSTALL = "pip install -c constraints.txt -e ."
CREDENTIALS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_AUTH")


@dataclass(frozen=True)
class Checked:
    """One line of the table."""

    what: str
    state: Mark
    found: str
    remedy: str = ""


def diagnose() -> list[Checked]:
    """Run every check; one that breaks becomes a problem of its own, so the others are still seen."""
    findings = []
    for name, check in CHECKS.items():
        try:
            findings.append(check())
        except LerenetError as error:
            findings.append(Checked(name, "problem", error.what, error.remedy))
        except Exception as error:
            findings.append(Checked(name, "problem", f"{type(error).__name__}: {error}", INSTALL))
    return findings


def doctor_command(as_json: bool = False) -> None:
    """Print the table; exit with status 1 when there is a problem.

    Args:
        as_json: a list of checks instead, for a program.

    Raises:
        SystemExit: there is a problem.
    """
    from rich.markup import escape
    from rich.table import Table

    findings = diagnose()
    if as_json:
        print_json([asdict(item) for item in findings])
        raise SystemExit(int(any(item.state == "problem" for item in findings)))
    colours = {"ok": "green", "warning": "yellow", "problem": "bold red"}
    table = Table("check", "state")
    table.add_column("found", overflow="fold")
    for item in findings:
        told = escape(item.found) + (f"\n[dim]-> {escape(item.remedy)}[/]" if item.remedy else "")
        table.add_row(item.what, f"[{colours[item.state]}]{item.state}[/]", told)
    screen = console()
    screen.print(table)
    states = [item.state for item in findings]
    problems, warned = states.count("problem"), states.count("warning")
    screen.print(f"{problems} problems, {warned} warnings, {states.count('ok')} ok")
    if problems:
        raise SystemExit(1)


def check_python() -> Checked:
    """Python is a version that the package allows."""
    version = platform.python_version()
    if sys.version_info[:2] == (3, 11):
        return Checked("python", "ok", version)
    return Checked("python", "problem", version, "make an environment with Python 3.11: `make setup`")


def check_packages() -> Checked:
    """Every requirement of the package is installed, below its cap (fastapi, sqlalchemy, …)."""
    from packaging.requirements import Requirement

    wanted = [Requirement(text) for text in metadata.requires("lerenet") or []]
    needed = [item for item in wanted if item.marker is None or item.marker.evaluate({"extra": ""})]
    wrong = []
    for item in needed:
        try:
            installed = metadata.version(item.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{item.name} is missing")
            continue
        if not item.specifier.contains(installed, prereleases=True):
            wrong.append(f"{item.name} {installed}, needed {item.specifier}")
    if wrong:
        return Checked("packages", "problem", "; ".join(wrong), INSTALL)
    shown = ("mlflow", "prefect", "dvc", "great-expectations", "fastapi", "sqlalchemy")
    listed = ", ".join(f"{name} {metadata.version(name)}" for name in shown)
    return Checked("packages", "ok", f"{len(needed)} as required: {listed}")


def check_torch() -> Checked:
    """Where torch computes, with which precision and how many threads."""
    import torch

    from lerenet.device import has_bf16, pick_device

    kind = pick_device().type
    if kind == "cuda":
        where = f"CUDA: {torch.cuda.get_device_name(0)}"
    else:
        where = f"no CUDA, CPU {torch.backends.cpu.get_cpu_capability()}"
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    bf16 = "bf16 in hardware: yes" if has_bf16(kind) else "bf16 in hardware: no, all is computed in fp32"
    return Checked("torch", "ok", f"{torch.__version__}, {where}, {bf16}, {threads}")


def check_tools() -> Checked:
    """Git and dvc can be started, and the project is in a git repository."""
    beside = str(Path(sys.executable).parent)
    missing = [tool for tool in ("git", "dvc") if not (shutil.which(tool) or shutil.which(tool, path=beside))]
    if missing:
        return Checked("git, dvc", "problem", f"not found: {', '.join(missing)}", "install git; " + INSTALL)
    if not any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents)):
        return Checked(
            "git, dvc", "warning", "not in a git repository", "`git init` (dvc experiments need it)"
        )
    return Checked("git, dvc", "ok", "found, in a git repository")


def check_project() -> Checked:
    """The current folder is the project's."""
    missing = [name for name in ("params.yaml", "dvc.yaml") if not Path(name).is_file()]
    if missing:
        fault = f"{Path.cwd()} has no {' and no '.join(missing)}"
        return Checked("project", "problem", fault, "run in the project's folder, beside params.yaml")
    return Checked("project", "ok", str(Path.cwd()))


def check_params() -> Checked:
    """params.yaml is valid."""
    from lerenet.params import load_params
    from lerenet.stages.common import check_settings

    params = load_params(layout.PARAMS)
    check_settings(params)
    return Checked("params.yaml", "ok", f"{len(params.recipes)} recipes, {params.image_size} pixels")


def check_data() -> Checked:
    """The data folder has its description and images of some classes."""
    remedy = "`lerenet data sample` makes sample data, `dvc pull` fetches yours"
    missing = [name for name in ("dataset.yaml", "sources.csv") if not (layout.DATA / name).is_file()]
    if missing:
        return Checked("data", "problem", f"no {' and no '.join(missing)} in {layout.DATA}/", remedy)
    classes = [folder.parent for folder in layout.DATA.glob("*/Images")]
    images = sum(1 for folder in classes for _ in (folder / "Images").iterdir())
    if not images:
        return Checked("data", "problem", f"no images in {layout.DATA}/*/Images", remedy)
    return Checked("data", "ok", f"{images} defect images in {len(classes)} classes")


def check_disk() -> Checked:
    """There is room for features, checkpoints and artifacts."""
    free = shutil.disk_usage(Path.cwd()).free / GIGABYTE
    state: Mark = "problem" if free < NO_SPACE else "warning" if free < LITTLE_SPACE else "ok"
    remedy = "" if state == "ok" else "free some: `dvc gc -w` and .cache/ (features are made again)"
    return Checked("disk", state, f"{free:.1f} GB free", remedy)


def check_weights() -> Checked:
    """The bundled ImageNet weights of EfficientNet-Lite0 load."""
    from lerenet.models.backbones.factory import create_backbone

    backbone = create_backbone("efficientnet_lite0", "imagenet", (1,))
    return Checked("weights", "ok", f"{backbone.name} with ImageNet weights")


def check_mlflow() -> Checked:
    """The tracking store is one that works; a remote one has credentials."""
    from lerenet.tracking.store import REMEDY, VARIABLE, check_uri, redacted, tracking_uri

    uri = tracking_uri()
    try:
        check_uri(uri)
    except LerenetError as error:
        return Checked("mlflow", "problem", error.what, REMEDY)
    parts, shown = urlsplit(uri), redacted(uri)
    if parts.scheme not in ("http", "https") or parts.hostname in LOCAL_HOSTS:
        return Checked("mlflow", "ok", shown)
    if not parts.username and not any(os.environ.get(name) for name in CREDENTIALS):
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        return Checked("mlflow", "warning", f"{shown}: a remote server, no credentials set", remedy)
    if parts.scheme == "http":
        return Checked("mlflow", "warning", f"{shown}: credentials go unencrypted", f"https in {VARIABLE}")
    return Checked("mlflow", "ok", f"{shown}, with credentials")


def check_champion() -> Checked:
    """Alias, ledger, files and runs of the champion agree (read from an sqlite store); a broken one is told."""
    state, found, remedy = examined()
    if sqlite_path(tracking_uri()) is not None:  # else nothing was looked at
        tell_champion(state, found, remedy)
    return Checked("champion", state, found, remedy)


def check_services() -> Checked:
    """The standing services answer, and nothing is left behind at Prefect; nothing to say where none was started."""
    if not any((Path(".services") / f"{name}.json").exists() for name in SERVICES):
        return Checked("services", "ok", "none was started here")
    words = [sys.executable, "-m", "flows.services", "status"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=STATUS_SECONDS)
    if done.returncode == 0:
        return Checked("services", "ok", "all answer")
    bad = [line for line in (done.stdout + done.stderr).splitlines() if " answers, " not in line]
    return Checked("services", "problem", "\n".join(bad[-8:]), "`make up` starts and mends them")


def check_prefect() -> Checked:
    """Which Prefect server the flows talk to."""
    from lerenet.tracking.store import redacted

    uri = os.environ.get("PREFECT_API_URL", "").strip()
    if not uri:
        return Checked("prefect", "ok", "PREFECT_API_URL not set: the profile's server, or one for each flow")
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return Checked("prefect", "problem", f"PREFECT_API_URL={redacted(uri)}: not a URL", PREFECT_REMEDY)
    if not parts.path.rstrip("/").endswith("/api") and "/api/" not in parts.path:
        return Checked("prefect", "warning", f"{redacted(uri)}: does not end in /api", PREFECT_REMEDY)
    if parts.hostname not in LOCAL_HOSTS and parts.scheme == "http":
        return Checked("prefect", "warning", f"{redacted(uri)}: remote, unencrypted", "use https")
    return Checked("prefect", "ok", redacted(uri))


PREFECT_REMEDY = "export PREFECT_API_URL=http://127.0.0.1:4200/api, or unset it"

CHECKS: Mapping[str, Callable[[], Checked]] = {
    "python": check_python,
    "packages": check_packages,
    "torch": check_torch,
    "git, dvc": check_tools,
    "project": check_project,
    "params.yaml": check_params,
    "data": check_data,
    "disk": check_disk,
    "weights": check_weights,
    "mlflow": check_mlflow,
    "champion": check_champion,
    "prefect": check_prefect,
    "services": check_services,
}
