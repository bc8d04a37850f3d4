"""Versions in the registry: found again, verified, with their lineage, never lost."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from lerenet.errors import TrackingError
from lerenet.tracking import registry, store
from lerenet.tracking.candidate import collect, lock_hash
from tests.registry_fixture import make_project

# MLflow compares a range with a column when it writes the input example.
pytestmark = pytest.mark.filterwarnings("ignore:Operation with range is deprecated")


def encoded(values: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_version_carries_its_lineage_and_is_found_again(project: Path) -> None:
    params = make_project(project)
    number = registry.register(collect(params), params)
    found = registry.get(number)
    assert found.tags["data_md5"].endswith(".dir")
    assert found.tags["episodes_digest"] == "e" * 32
    assert found.tags["training_run"] == "a" * 32
    assert found.tags["pretraining_run"] == "untracked"
    assert {"params_hash", "git_commit", "git_dirty", "lock", "cell", "miou", "miou_low", "miou_high"} <= set(
        found.tags
    )
    assert found.tags["verdict"] == "candidate"
    assert registry.register(collect(params), params) == number
    assert len(registry.versions()) == 1
    make_project(project, quality=0.7)
    assert registry.register(collect(params), params) != number


def test_the_package_holds_what_scoring_again_needs(project: Path) -> None:
    params = make_project(project)
    folder = registry.resolve(registry.register(collect(params), params))
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"weights.safetensors", "config.json", "counts.parquet", "README.md"} <= names
    assert {f"folds/fold{n}/weights.safetensors" for n in range(3)} <= names
    whole = [path for path in folder.parents[1].rglob("*") if path.is_file()]
    assert not [path for path in whole if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]
    card = (folder / "README.md").read_text()
    for word in ("Intended use", "Limits", "CC0-1.0", "mIoU", "Lineage", "e" * 32):
        assert word in card


def test_the_champion_is_served_by_mlflow(project: Path) -> None:
    import mlflow

    pyfunc = registry.pyfunc()
    params = make_project(project)
    registry.set_champion(registry.register(collect(params), params))
    uri = store.tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        model = pyfunc.load_model(f"models:/{registry.NAME}@{registry.CHAMPION}")
    finally:
        mlflow.set_tracking_uri(None)
    query = np.full((40, 60, 3), 200, np.uint8)
    query[10:30, 20:40] = 10
    mask = np.where(query[..., 0] < 100, 255, 0).astype(np.uint8)
    row = {"support_images": [encoded(query)], "support_masks": [encoded(mask)], "query": encoded(query)}
    answer = model.predict(pd.DataFrame([row]))
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"][0]))))
    assert found.shape == mask.shape
    assert (found == mask).mean() > 0.9
    assert answer["foreground_share"][0] == pytest.approx((found > 0).mean())


def test_changed_weights_are_refused(project: Path) -> None:
    params = make_project(project)
    number = registry.register(collect(params), params)
    folder = registry.resolve(number)
    weights = folder / "folds" / "fold1" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(TrackingError, match="sha256 differs"):
        registry.resolve(number)


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


def test_a_failing_store_does_not_look_like_no_champion(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    class Broken:
        def get_model_version_by_alias(self, *_: str) -> None:
            raise MlflowException("database is locked")

    monkeypatch.setattr(registry, "client", Broken)
    with pytest.raises(TrackingError, match="can't be read"):
        registry.champion()


def test_an_aliased_version_and_its_predecessor_stay(project: Path) -> None:
    params = make_project(project)
    first = registry.register(collect(params), params)
    make_project(project, quality=0.7)
    second = registry.register(collect(params), params)
    make_project(project, quality=0.8)
    third = registry.register(collect(params), params)
    registry.set_tags(second, {"previous_champion": first})
    registry.set_champion(second)
    for kept in (first, second):
        with pytest.raises(TrackingError):
            registry.delete_version(kept)
    registry.delete_version(third)
    assert [item.number for item in registry.versions()] == [second, first]
    assert registry.versions()[0].is_champion


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
