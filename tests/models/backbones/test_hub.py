"""Weights from a hub: fetched, checked, kept; what goes wrong is said, and nothing half stays."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save
from torch import Tensor

from lerenet.errors import ModelError
from lerenet.models.backbones.factory import create_backbone
from lerenet.models.backbones.hub import FILE, fetch
from lerenet.models.backbones.weights import LITE0, NAMES
from tests.helpers import PROJECT
from tests.helpers.hub import COMMIT, Hub, serve

NAME = "test_resnet"  # timm's smallest: 0.4 million weights, published as every other's
REPOSITORY = timm.get_pretrained_cfg(NAME).hf_hub_id
REMEDIES = ("`init`", "`random`", LITE0)


def made(name: str = NAME) -> dict[str, Tensor]:
    """Weights as timm would publish them, classifier included."""
    torch.manual_seed(7)
    return {key: value.contiguous() for key, value in timm.create_model(name).state_dict().items()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the weights of `NAME`, which the client in this process asks."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's attempts
    constants = "huggingface_hub.constants."
    with serve() as running:
        monkeypatch.setattr(f"{constants}ENDPOINT", running.address)
        address = f"{running.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(f"{constants}HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(f"{constants}HF_HUB_CACHE", str(tmp_path / "kept"))
        monkeypatch.setattr(f"{constants}AGENT_HARNESSES_PATH", str(tmp_path / "agents"))
        monkeypatch.setattr(f"{constants}DOWNLOAD_CHUNK_SIZE", 1 << 16)
        running.files[f"{REPOSITORY}/{FILE}"] = save(made())
        yield running


def kept(folder: Path) -> list[Path]:
    """What lies in the client's folder that could be taken for weights, whole or not."""
    return [path for path in folder.rglob("*") if path.suffix == ".incomplete" or path.name == FILE]


def assert_loaded(name: str, init: str = "imagenet") -> None:
    own = create_backbone(name, init, (1, 2, 3)).state_dict()
    published = made(name)
    assert len(own) > 40
    assert all(torch.equal(value, published[key.removeprefix("body.")]) for key, value in own.items())


def refused(name: str = NAME) -> ModelError:
    with pytest.raises(ModelError, match=f"the ImageNet weights of {name} could not be loaded") as raised:
        create_backbone(name, "imagenet", (1,))
    assert all(remedy in raised.value.remedy for remedy in REMEDIES)
    return raised.value


def test_weights_come_once_and_then_from_what_is_kept(hub: Hub, tmp_path: Path) -> None:
    assert_loaded(NAME)
    assert hub.asked == [
        f"HEAD /{REPOSITORY}/resolve/main/{FILE}",
        f"GET /store/{REPOSITORY}/{FILE}",
    ]
    assert_loaded(NAME)
    assert [word.split()[0] for word in hub.asked] == ["HEAD", "GET", "HEAD"]  # whether it is the newest
    hub.status = 503
    assert_loaded(NAME)
    (path,) = kept(tmp_path / "kept")
    assert COMMIT in path.parts
    assert_loaded(NAME, str(path))  # as a file that was brought from elsewhere


def test_without_a_server_what_is_kept_serves(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(REPOSITORY)
    nobody = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", nobody)
    assert_loaded(NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert_loaded(NAME)
    assert len(hub.asked) == 2


def test_the_environment_names_the_mirror_and_the_folder(hub: Hub, tmp_path: Path) -> None:
    code = f"from lerenet.models.backbones.factory import create_backbone as c; c({NAME!r}, levels=(1, 2))"
    around = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
    around.pop("HF_HUB_CACHE", None)
    subprocess.run([sys.executable, "-c", code], env=around, cwd=PROJECT, check=True)
    assert [word.split()[0] for word in hub.asked] == ["HEAD", "GET"]
    assert len(kept(tmp_path / "home" / "hub")) == 1


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.breaks, hub.sent = 2, 3 << 16
    assert_loaded(NAME)
    spans = [word.split()[2] for word in hub.asked if word.count(" ") == 2]
    assert spans == [f"bytes={3 << 16}-", f"bytes={6 << 16}-"]
    assert len(kept(tmp_path / "kept")) == 1


def test_a_connection_that_never_holds_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.breaks = 100
    said = refused()
    assert f"{REPOSITORY}/{FILE}: could not be downloaded (RemoteProtocolError" in said.what
    assert "HF_ENDPOINT" in said.remedy
    assert kept(tmp_path / "kept") == []
    hub.breaks = 0
    assert_loaded(NAME)


def test_no_server_is_said(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", nobody)
    said = refused()
    assert "could not be downloaded (ConnectError" in said.what
    assert "run once with a network" in said.remedy
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "OfflineModeIsEnabled" in refused().what
    assert kept(tmp_path / "kept") == []


def test_bytes_with_another_digest_are_refused_and_removed(hub: Hub, tmp_path: Path) -> None:
    name = f"{REPOSITORY}/{FILE}"
    hub.digests[name] = hashlib.sha256(hub.files[name]).hexdigest()
    whole = hub.files[name]
    hub.files[name] = whole[:-1] + bytes([whole[-1] ^ 1])
    said = refused()
    assert f"{name}: sha256 is" in said.what
    assert hub.digests[name][:12] in said.what
    assert kept(tmp_path / "kept") == []
    hub.files[name] = whole
    assert_loaded(NAME)


def test_what_was_damaged_on_the_disk_is_refused_and_fetched_again(hub: Hub, tmp_path: Path) -> None:
    assert_loaded(NAME)
    (path,) = kept(tmp_path / "kept")
    path.write_bytes(path.read_bytes()[:-100])
    assert "the file was removed" in refused().what
    assert_loaded(NAME)


def test_a_file_that_repositories_share_is_held_against_its_own_digest(hub: Hub, tmp_path: Path) -> None:
    """The client may keep a blob as a link into one store, where it has another name."""
    assert_loaded(NAME)
    (path,) = kept(tmp_path / "kept")
    blob, shared = path.resolve(), tmp_path / "kept" / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(shared)
    assert_loaded(NAME)
    shared.write_bytes(b"damaged")
    assert "the file was removed" in refused().what
    assert not shared.exists()
    assert_loaded(NAME)


@pytest.mark.parametrize(
    ("status", "code", "word", "remedy"),
    [
        (401, "", "asks for a login (401)", "HF_TOKEN"),
        (403, "GatedRepo", "asks for a login (403)", "HF_TOKEN"),
        (404, "RepoNotFound", "does not have it (404)", "HF_ENDPOINT"),
        (404, "EntryNotFound", "does not have it (404)", "HF_ENDPOINT"),
        (404, "", "does not have it (404)", "HF_ENDPOINT"),
        (503, "", "answers 503", "later"),
    ],
)
def test_a_refusal_is_told(hub: Hub, tmp_path: Path, status: int, code: str, word: str, remedy: str) -> None:
    hub.status, hub.error = status, code
    said = refused()
    assert f"{REPOSITORY}/{FILE}: the server {word}" in said.what
    assert remedy in said.remedy
    assert kept(tmp_path / "kept") == []


def test_what_is_no_hub_is_said(hub: Hub) -> None:
    hub.plain = True
    said = refused()
    assert "HF_ENDPOINT" in said.what
    assert "FileMetadataError" in said.what


@pytest.mark.parametrize("name", sorted(set(NAMES) - {LITE0}))
def test_each_backbone_asks_for_the_repository_that_timm_names(hub: Hub, name: str) -> None:
    repository = timm.get_pretrained_cfg(NAMES[name]).hf_hub_id
    assert f"{repository}/{FILE}" in refused(name).what
    assert hub.asked == [f"HEAD /{repository}/resolve/main/{FILE}"]


@pytest.mark.parametrize("wrong", ["another network", "a tensor misshapen", "tensors missing", "no weights"])
def test_a_file_that_does_not_fit_is_refused(hub: Hub, wrong: str) -> None:
    own = made()
    contents = {
        "another network": save(made("test_efficientnet")),
        "a tensor misshapen": save({**own, "layer2.0.conv1.weight": torch.zeros(1)}),
        "tensors missing": save({name: own[name] for name in own if not name.startswith("layer2.0.conv1")}),
        "no weights": b"<html>log in</html>",
    }
    hub.files[f"{REPOSITORY}/{FILE}"] = contents[wrong]
    kind = "SafetensorError" if wrong == "no weights" else "RuntimeError"
    assert refused().what.count("\n") == 0
    assert kind in refused().what


@pytest.mark.slow
def test_all_of_resnet50(hub: Hub) -> None:
    repository = timm.get_pretrained_cfg(NAMES["resnet50"]).hf_hub_id
    hub.files[f"{repository}/{FILE}"] = save(made(NAMES["resnet50"]))
    published = made(NAMES["resnet50"])
    for stride in (None, 8):
        own = create_backbone("resnet50", "imagenet", (1, 2, 3, 4), stride=stride).state_dict()
        assert all(torch.equal(value, published[key.removeprefix("body.")]) for key, value in own.items())
