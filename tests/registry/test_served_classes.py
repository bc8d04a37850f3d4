"""A version that knows classes answers a photo alone as ``lerenet inspect`` does, and one with supports as before."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from lerenet.enrolment.enrol import Given, enrol_class
from lerenet.enrolment.enrolled import CLASSES, NETWORK, read_inspection
from lerenet.enrolment.inspect import Inspector
from lerenet.models.serialization import LoadedNetwork, save_network
from lerenet.params import EnrolmentSettings
from lerenet.registry import served
from lerenet.registry.registered import INSPECTION
from tests.helpers.prediction import picture, pixels, truth
from tests.helpers.registry import load_model

# MLflow compares a range with a column when it writes the input example.
pytestmark = pytest.mark.filterwarnings("ignore:Operation with range is deprecated")


def answer(package: Path, row: dict[str, Any]) -> Any:
    """What a version with this package answers to one row, through MLflow."""
    model = package.with_name(f"model-{time.monotonic_ns()}")
    served.save(model, package)
    return load_model(str(model)).predict(pd.DataFrame([row])).iloc[0]


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


@pytest.fixture
def package(tmp_path: Path, loaded: LoadedNetwork) -> Path:
    folder = tmp_path / "package"
    for place in (folder, folder / INSPECTION / NETWORK):
        save_network(place, loaded.network.head, loaded.network.backbone, dict(loaded.config))
    marked = [picture(tmp_path / "in" / f"{seed}.png", seed) for seed in range(2)]
    given = Given([(path, [truth(path)]) for path in marked])
    enrol_class("Blob", given, loaded, folder / INSPECTION / CLASSES, EnrolmentSettings(steps=0))
    return folder


def test_a_photo_alone_is_inspected(package: Path, tmp_path: Path) -> None:
    query = picture(tmp_path / "q.png", 30)
    found = Inspector(*read_inspection(package / INSPECTION))(pixels(query))
    alone = answer(package, {"query": encoded(query)})
    (said,) = json.loads(alone["classes"])
    assert (alone["verdict"], said["name"], said["verdict"]) == ("not calibrated", "Blob", "not calibrated")
    assert said["score"] == pytest.approx(found.classes[0].score, abs=1e-4)
    assert alone["foreground_share"] == pytest.approx((found.marks > 0).mean(), abs=1e-3)
    example = tmp_path / "in" / "0.png"
    supports = {"support_images": [encoded(example)], "support_masks": [encoded(truth(example))]}
    marked = answer(package, {"query": encoded(query), **supports})
    assert (marked["verdict"], marked["classes"]) == ("", "[]")
    assert marked["foreground_share"] > 0


def test_a_version_without_classes_asks_for_supports(package: Path, tmp_path: Path) -> None:
    (package / INSPECTION).rename(tmp_path / "elsewhere")
    with pytest.raises(MlflowException, match="knows no class") as refused:
        answer(package, {"query": encoded(picture(tmp_path / "q.png", 30))})
    assert refused.value.get_http_status_code() == 400


def served_model(package: Path) -> Any:
    model = package.with_name("served")
    served.save(model, package)
    return load_model(str(model))


def module_of(model: Any) -> Any:
    return sys.modules[type(model.unwrap_python_model()).__module__]


def test_too_many_rows_and_too_long_a_time_are_refused(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, row = served_model(package), {"query": encoded(picture(tmp_path / "q.png", 30))}
    monkeypatch.setattr(module_of(model), "MOST", 2)
    with pytest.raises(MlflowException, match="3 rows, at most 2") as many:
        model.predict(pd.DataFrame([row] * 3))
    assert many.value.get_http_status_code() == 400
    monkeypatch.setattr(module_of(model), "SECONDS", -1.0)
    with pytest.raises(MlflowException, match="0 of 2 rows") as slow:
        model.predict(pd.DataFrame([row] * 2))
    assert slow.value.get_http_status_code() == 503


def test_bad_input_is_named_without_a_path(package: Path, tmp_path: Path) -> None:
    model = served_model(package)
    for query, what in (("%%%", "not base64"), (base64.b64encode(b"no picture").decode(), "query.png")):
        with pytest.raises(MlflowException, match=f"row 0: .*{what}") as refused:
            model.predict(pd.DataFrame([{"query": query}]))
        assert refused.value.get_http_status_code() == 400
        assert "/lerenet-" not in str(refused.value)


def test_supports_of_a_batch_are_encoded_once(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, example = served_model(package), tmp_path / "in" / "0.png"
    supports = {"support_images": [encoded(example)], "support_masks": [encoded(truth(example))]}
    rows = [{"query": encoded(picture(tmp_path / f"q{seed}.png", seed)), **supports} for seed in (30, 31, 32)]
    module, times = module_of(model), []
    real = module.enrol
    monkeypatch.setattr(module, "enrol", lambda *words: (times.append(1), real(*words))[1])
    together = model.predict(pd.DataFrame(rows))
    assert len(times) == 1
    alone = [model.predict(pd.DataFrame([row])).iloc[0] for row in rows]
    assert [row["mask"] for row in alone] == together["mask"].tolist()
