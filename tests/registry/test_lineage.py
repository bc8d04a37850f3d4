"""From a mask, or a version, back to the data: every link verified, a false one found."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from lerenet import layout
from lerenet.cli import registry as cli
from lerenet.data.folds import digest_of
from lerenet.errors import TrackingError
from lerenet.files import sha256_file, write_json
from lerenet.registry import copies, registered, registering
from lerenet.registry import versions as registry
from lerenet.registry.candidate import collect, settings_hash
from lerenet.registry.lineage import DVC_FILES, Link, trace
from lerenet.registry.lineage_mask import of_mask
from tests.helpers.factories import tiny_dataset
from tests.helpers.registry import make_project

pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
    pytest.mark.usefixtures("little_code"),
]


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def version(project: Path) -> registered.Version:
    """A registered version of which everything is at hand: git, DVC's cache, catalogue, episodes."""
    from lerenet.data.cataloguing import build_catalog

    tiny_dataset(project / "data", classes=3, defect=2, clean=1)
    catalog = build_catalog(project / "data", layout.CATALOG)
    names = catalog["image"].tolist()
    episodes = pd.DataFrame(
        [
            {"split": "fold0", "role": "test", "kind": "defect", "protocol": "groups", "shots": 1,
             "cls": "A", "query": names[0], "support": [names[1]], "episode": 0}
        ]
    )  # fmt: skip
    params = make_project(project, digest=digest_of(episodes, catalog))
    episodes.to_parquet(layout.FOLDS / "episodes.parquet")
    listed = json.dumps([{"md5": "ab" + "0" * 30, "relpath": "x.png"}]).encode()
    md5 = hashlib.md5(listed).hexdigest() + ".dir"
    for name, content in ((md5, listed), ("ab" + "0" * 30, b"picture")):
        path = DVC_FILES / name[:2] / name[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    Path("data.dvc").write_text(f"outs:\n- md5: {md5}\n  path: data\n")
    Path(".gitignore").write_text("mlflow.db\nmlartifacts\n.dvc\n.checkpoints\n")
    git("init", "-q")
    git("add", "-A")
    git("-c", "user.name=a", "-c", "user.email=a@example.invalid", "commit", "-qm", "start")
    return registry.by_number(registering.register(collect(params), params))


def states(found: list[Link]) -> dict[str, str]:
    return {link.what: link.state for link in found}


def test_a_whole_chain_is_verified(version: registered.Version) -> None:
    found = states(trace(version))
    assert found["registration run"] == "ok"
    assert found["training run"] == found["pretraining run"] == "not here"  # the fixture's runs are made up
    for what in (
        "weights.safetensors",
        "README.md",
        "MLmodel",
        "pyfunc_model.py",
        "settings",
        "code",
        "dvc.lock",
        "episodes",
        "data",
    ):
        assert found[what] == "ok", what
    assert "differs" not in found.values()


def test_what_changed_is_found(version: registered.Version) -> None:
    folder = copies.local(version) / registered.PACKAGE
    (folder / "config.json").write_text("{}")
    (folder / "folds" / "fold1" / "weights.safetensors").unlink()
    settings = json.loads((folder / registered.PARAMS).read_text())
    (folder / registered.PARAMS).write_text(json.dumps({**settings, "seed": 99}))
    listed = DVC_FILES / version.tags["data_md5"][:2] / version.tags["data_md5"][2:]
    listed.write_text("[]")
    found = states(trace(version))
    for what in ("config.json", "folds/fold1/weights.safetensors", "settings", "data"):
        assert found[what] == "differs", what
    assert found["weights.safetensors"] == found["episodes"] == "ok"


def test_a_project_that_went_on_is_told_from_a_broken_chain(version: registered.Version) -> None:
    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    by_name = {link.what: link for link in trace(version)}
    assert by_name["dvc.lock"].state == "ok"
    assert version.tags["git_commit"][:8] in by_name["dvc.lock"].note  # as it was committed
    git("checkout", "-q", "--orphan", "other")
    git("-c", "user.name=a", "-c", "user.email=a@example.invalid", "commit", "-qm", "other")
    git("branch", "-D", "master") if "master" in git("branch") else git("branch", "-D", "main")
    git("reflog", "expire", "--expire=now", "--all")
    git("gc", "-q", "--prune=now")
    found = states(trace(version))
    assert found["code"] == found["dvc.lock"] == "not here"


def predicted(folder: Path, made: registered.Version, **changes: Any) -> Path:
    """A mask as `lerenet predict` leaves it."""
    folder.mkdir(exist_ok=True)
    mask = folder / "a_mask.png"
    mask.write_bytes(b"mask")
    query = folder / "a.png"
    query.write_bytes(b"query")
    row = {"query": f"{folder.name}/a.png", "mask": mask.name, "sha256": sha256_file(mask)}
    row["query_sha256"] = sha256_file(query)
    weights = made.tags["weights_sha256"]
    support = folder / "support.png"
    support.write_bytes(b"support")
    about = {
        "model": "x", "version": made.number, "weights_sha256": weights, "predictions": [row],
        "supports": [str(support)], "support_sha256": [[sha256_file(support), "0" * 64]],
    }  # fmt: skip
    write_json(folder / "predictions.json", {**about, **changes})
    return mask


def test_from_a_mask_to_its_version(version: registered.Version, tmp_path: Path) -> None:
    mask = predicted(tmp_path / "out", version)
    found, links = of_mask(mask)
    assert found.number == version.number
    assert [(link.what, link.state) for link in links] == [
        ("mask", "ok"),
        ("query", "ok"),
        ("support", "ok"),
    ]
    mask.write_bytes(b"painted over")
    (mask.parent / "a.png").write_bytes(b"another")
    (mask.parent / "support.png").unlink()
    assert [link.state for link in of_mask(mask)[1]] == ["differs", "differs", "not here"]
    other = predicted(tmp_path / "other", version, weights_sha256="0" * 64)
    assert of_mask(other)[1][0].state == "differs"
    (other.parent / "support.png").write_bytes(b"another picture")
    assert of_mask(other)[1][2].state == "differs"


def test_settings_that_this_code_no_longer_knows_stay_verified(version: registered.Version) -> None:
    """A setting that went leaves the hash of what was stored as it is."""
    path = copies.local(version) / registered.PACKAGE / registered.PARAMS
    stored = {**json.loads(path.read_text()), "gone_since": 1}
    path.write_text(json.dumps(stored))
    tags = {**version.tags, "params_hash": settings_hash(stored)}
    found = states(trace(dataclasses.replace(version, tags=tags)))
    assert found["settings"] == "ok"
    assert found["dvc.lock"] == "not here"


def test_a_mask_without_a_version_is_refused(version: registered.Version, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="no version of a registry"):
        of_mask(predicted(tmp_path / "out", version, version=""))
    with pytest.raises(TrackingError, match=r"predictions\.json names"):
        of_mask(tmp_path / "out" / "b_mask.png")
    with pytest.raises(TrackingError, match="made by a call before the one"):
        of_mask(predicted(tmp_path / "out", version, predictions=[], earlier={"a_mask.png": ["0" * 64]}))


def test_the_command_ends_with_status_1_when_a_link_differs(
    version: registered.Version, tmp_path: Path
) -> None:
    app, runner = typer.Typer(), CliRunner()
    app.command("lineage")(cli.lineage)
    app.command("models")(cli.models)
    whole = runner.invoke(app, ["lineage", version.number])
    assert whole.exit_code == 0, whole.output
    for word in ("weights.safetensors", version.tags["git_commit"][:8], version.tags["data_md5"][:20]):
        assert word in whole.output
    mask = predicted(tmp_path / "out", version)
    assert "a.png" in runner.invoke(app, ["lineage", "--mask", str(mask)]).output
    (copies.local(version) / registered.PACKAGE / "config.json").write_text("{}")
    assert runner.invoke(app, ["lineage", version.number]).exit_code == 1
