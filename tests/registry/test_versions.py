"""Versions in the registry: found again, verified, with their lineage, never lost."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from PIL import Image

from lerenet.errors import ParamsError, TrackingError
from lerenet.models.serialization import LoadedNetwork
from lerenet.registry import copies, registered, registering
from lerenet.registry import versions as registry
from lerenet.registry.candidate import collect, lock_hash
from lerenet.tracking import store
from tests.helpers.registry import load_model, make_project

# MLflow compares a range with a column when it writes the input example.
pytestmark = pytest.mark.filterwarnings("ignore:Operation with range is deprecated")


def encoded(values: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_version_carries_its_lineage_and_is_found_again(project: Path) -> None:
    params = make_project(project)
    number = registering.register(collect(params), params)
    found = registry.by_number(number)
    assert found.tags["data_md5"].endswith(".dir")
    assert found.tags["episodes_digest"] == "e" * 32
    assert found.tags["training_run"] == "a" * 32
    assert found.tags["pretraining_run"] == "untracked"
    assert {"params_hash", "git_commit", "git_dirty", "lock", "cell", "miou", "miou_low", "miou_high"} <= set(
        found.tags
    )
    assert found.tags["verdict"] == "candidate"
    assert registering.register(collect(params), params) == number
    assert len(registry.versions()) == 1
    make_project(project, quality=0.7)
    assert registering.register(collect(params), params) != number


def test_the_package_holds_what_scoring_again_needs(project: Path) -> None:
    params = make_project(project)
    folder = registry.resolve(registering.register(collect(params), params))
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"weights.safetensors", "config.json", "counts.parquet", "README.md"} <= names
    assert {f"folds/fold{n}/weights.safetensors" for n in range(3)} <= names
    whole = [path for path in folder.parents[1].rglob("*") if path.is_file()]
    assert not [path for path in whole if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]
    card = (folder / "README.md").read_text()
    for word in (
        "Classes that it knows",
        "Blob",
        "Intended use",
        "Limits",
        "CC0-1.0",
        "mIoU",
        "Lineage",
        "e" * 32,
    ):
        assert word in card


def served_model(project: Path) -> Any:
    import mlflow

    params = make_project(project)
    registry.set_champion(registering.register(collect(params), params))
    mlflow.set_tracking_uri(store.tracking_uri())
    try:
        return load_model(f"models:/{registered.NAME}@{registered.CHAMPION}")
    finally:
        mlflow.set_tracking_uri(None)


def test_a_served_model_is_prepared_when_it_is_loaded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = []

    def prepare(loaded: LoadedNetwork) -> LoadedNetwork:
        prepared.append(loaded)
        return loaded

    monkeypatch.setattr("lerenet.inference.prepare", prepare)
    assert served_model(project).unwrap_python_model().loaded is prepared[-1]


def test_the_champion_is_served_by_mlflow_with_the_masks_of_predict(project: Path, tmp_path: Path) -> None:
    """Grey values around the network's threshold: a cut elsewhere than at a probability of one half shows."""
    from lerenet.models.serialization import load_network
    from lerenet.predict import predict

    model = served_model(project)
    query = np.tile(np.linspace(20, 240, 60).astype(np.uint8)[None, :, None], (40, 1, 3))
    mask = np.where(query[..., 0] < 100, 255, 0).astype(np.uint8)
    row = {"support_images": [encoded(query)], "support_masks": [encoded(mask)], "query": encoded(query)}
    answer = model.predict(pd.DataFrame([row]))
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"][0]))))
    for name, values in (("image", query), ("mask", mask)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    (tmp_path / "query.png").write_bytes((tmp_path / "image.png").read_bytes())
    loaded = load_network(registry.resolve("champion"))
    support = (tmp_path / "image.png", tmp_path / "mask.png")
    predict([support], [tmp_path / "query.png"], tmp_path / "out", loaded)
    assert (found == np.asarray(Image.open(tmp_path / "out/query_mask.png"))).all()
    assert found.shape == mask.shape
    assert 0 < answer["foreground_share"][0] < 1
    assert answer["foreground_share"][0] == pytest.approx((found > 0).mean())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"support_masks": []}, "1 support images and 0"),
    ({"support_images": []}, "0 support images and 1"),
    ({"query": "?"}, "not base64"),
    ({"query": encoded(np.full((32, 8, 3), 90, np.uint8))}, "8 x 32 pixels"),
    ({"support_masks": [encoded(np.zeros((32, 32), np.uint8))]}, "marks no pixel"),
    ({"support_masks": [encoded(np.full((32, 32), 255, np.uint8))]}, "100% of it is defect"),
    ({"support_masks": [encoded(np.full((9, 8), 255, np.uint8))]}, "8 x 9 pixels"),
]


def test_the_served_model_refuses_what_predict_refuses(project: Path) -> None:
    model = served_model(project)
    image = encoded(np.full((32, 32, 3), 90, np.uint8))
    mask = encoded(np.pad(np.full((8, 8), 255, np.uint8), 12))
    row = {"support_images": [image], "support_masks": [mask], "query": image}
    for change, word in REFUSED:
        with pytest.raises(MlflowException, match=word):
            model.predict(pd.DataFrame([{**row, **change}]))


@pytest.mark.parametrize("name", ["folds/fold1/weights.safetensors", "README.md", "../../pyfunc_model.py"])
def test_a_changed_file_is_refused(project: Path, name: str) -> None:
    params = make_project(project)
    number = registering.register(collect(params), params)
    path = registry.resolve(number) / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(TrackingError, match="sha256 differs"):
        registry.resolve(number)


def test_a_file_put_into_a_version_is_refused(project: Path) -> None:
    """A fourth folder under folds/ would be scored with the others."""
    params = make_project(project)
    number = registering.register(collect(params), params)
    (registry.resolve(number) / "folds" / "fold3").mkdir()
    shutil.copyfile("dvc.lock", registry.resolve(number) / "folds" / "fold3" / "config.json")
    with pytest.raises(TrackingError, match=r"fold3/config\.json"):
        registry.resolve(number)


def test_a_damaged_download_is_fetched_once_more(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = make_project(project)
    found = registry.by_number(registering.register(collect(params), params))
    origin, calls = copies.local(found), []
    remote = dataclasses.replace(found, source="s3://bucket/model")

    def fetch(artifact_uri: str, dst_path: str, tracking_uri: str) -> None:
        calls.append(artifact_uri)
        shutil.copytree(origin, Path(dst_path) / "model")

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", fetch)
    for _ in range(2):
        copies.verified(remote)
    assert len(calls) == 1
    for damaged in ("MLmodel", f"{registered.PACKAGE}/config.json"):
        (copies.local(remote) / damaged).unlink()
        copies.verified(remote)
    assert len(calls) == 3
    (origin / "MLmodel").write_text("other")
    (copies.local(remote) / "MLmodel").unlink()
    with pytest.raises(TrackingError, match="MLmodel is not the file"):
        copies.verified(remote)
    assert len(calls) == 4


def test_what_is_missing_is_said(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrackingError, match="no champion yet") as caught:
        registry.resolve("champion")
    assert "lerenet promote" in caught.value.remedy
    assert registry.champion() is None
    with pytest.raises(TrackingError, match="does not exist"):
        registry.resolve("7")
    with pytest.raises(TrackingError, match="is no version"):
        registry.resolve("../../etc")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match="nothing answers"):
        registry.champion()


def test_a_failing_store_does_not_look_like_no_champion_or_version(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    class Broken:
        def get_model_version_by_alias(self, *_: str) -> None:
            raise MlflowException("database is locked")

        get_model_version = get_model_version_by_alias

    monkeypatch.setattr(registry, "client", Broken)
    for asked in (registry.champion, lambda: registry.by_number("1")):
        with pytest.raises(TrackingError, match="can't be read"):
            asked()


def test_the_lock_hash_sees_what_the_model_comes_from_and_nothing_else(project: Path) -> None:
    params = make_project(project)
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    stages = lock["stages"]
    stages["ship"]["deps"] = [{"path": "artifacts/features/all/manifest.json", "md5": "1"}]
    stages["features@all"] = {"cmd": "x", "outs": [{"path": "artifacts/features/all", "md5": "1"}]}
    stages["report"] = {"cmd": "x", "outs": [{"path": "artifacts/report", "md5": "1"}]}

    def changed(stage: str) -> str:
        copy = json.loads(json.dumps(lock))
        copy["stages"][stage]["outs"][0]["md5"] = "2"
        Path("dvc.lock").write_text(yaml.safe_dump(copy))
        return lock_hash(params)

    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    before = lock_hash(params)
    assert changed("report") == before
    assert changed("features@all") != before
    Path("dvc.lock").unlink()
    with pytest.raises(TrackingError, match=r"dvc\.lock"):
        lock_hash(params)


def test_a_candidate_without_its_evaluation_is_refused_by_name(project: Path) -> None:
    params = make_project(project)
    shutil.rmtree("artifacts/evaluate")
    with pytest.raises(TrackingError, match=r"counts\.parquet"):
        collect(params)


def test_scores_of_other_episodes_are_refused(project: Path) -> None:
    params = make_project(project)
    path = next(Path("artifacts/evaluate").glob("fold2*")) / "about.json"
    path.write_text(json.dumps({"episodes": "f" * 32}))
    with pytest.raises(TrackingError, match="of episodes ffff"):
        collect(params)


@pytest.mark.parametrize(
    ("grid", "word"),
    [({"splits": ["fold0", "fold1", "fold2"]}, "splits lacks all"), ({"folds": ["fold2"]}, "fold0, fold1"),
     ({"recipes": ["baseline"]}, "recipes lacks lerenet")],
)  # fmt: skip
def test_a_grid_that_a_table_left_is_refused(project: Path, grid: dict[str, list[str]], word: str) -> None:
    """What stands in artifacts/ would be the shipping cell of an older state."""
    params = make_project(project)
    left = params.model_copy(update={"grid": params.grid.model_copy(update=grid)})
    with pytest.raises(ParamsError, match=word) as caught:
        collect(left)
    assert "judged by" in caught.value.remedy
