"""Label Studio's protocol: health, setup, predict; images from the named place alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from lerenet.annotations.brush import decode
from lerenet.data.masks import read_mask
from lerenet.page.desk import Desk
from lerenet.page.label_studio import Source, backend
from tests.helpers.prediction import picture, truth

CONFIG = """<View><Image name="photo" value="$picture"/>
<BrushLabels name="kind" toName="photo"><Label value="Blob"/><Label value="Other"/></BrushLabels></View>"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[TestClient, Path]:
    """The backend, and the folder of its files."""
    tmp_path = tmp_path_factory.mktemp("studio")
    desk = Desk(tmp_path / "page", "matching", tmp_path / "enrolments")
    photos = []
    for seed in range(4):
        path = picture(tmp_path / "in" / f"{seed}.png", seed)
        photo = desk.photos.take(path.name, path.read_bytes())
        desk.photos.keep(photo, read_mask(truth(path)))
        photos.append(photo)
    desk.draft("Blob", photos, [])
    (tmp_path / "files").mkdir()
    return TestClient(
        backend(desk, Source("http://studio:8080", files=tmp_path / "files"))
    ), tmp_path / "files"


@pytest.fixture
def client(served: tuple[TestClient, Path]) -> TestClient:
    return served[0]


@pytest.fixture
def files(served: tuple[TestClient, Path]) -> Path:
    return served[1]


def asked(address: str, config: str = CONFIG) -> dict[str, Any]:
    return {
        "tasks": [{"id": 7, "data": {"picture": address}}],
        "label_config": config,
        "project": "1.1",
        "params": {},
    }


def test_it_says_that_it_stands(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "UP", "model_class": "lerenet"}
    said = client.post(
        "/setup", json={"project": "1", "schema": CONFIG, "hostname": "http://studio:8080"}
    ).json()
    assert said["model_version"].startswith("matching")


def test_a_task_is_answered_with_a_brush_that_decodes_to_the_marks(client: TestClient, files: Path) -> None:
    photo = picture(files / "line 1" / "q.png", 30)
    answer = client.post("/predict", json=asked("/data/local-files/?d=line%201/q.png")).json()
    assert answer["model_version"].startswith("matching")
    (one,) = answer["results"]
    (brush,) = one["result"]
    assert (brush["from_name"], brush["to_name"], brush["type"]) == ("kind", "photo", "brushlabels")
    assert brush["value"]["brushlabels"] == ["Blob"]
    size = (brush["original_height"], brush["original_width"])
    mask, true = decode(brush["value"]["rle"], size), read_mask(truth(photo))
    assert mask.shape == true.shape
    assert (mask & true).sum() / (mask | true).sum() > 0.3
    assert one["score"] == brush["score"]


def test_classes_that_the_set_up_lacks_are_left_out(client: TestClient, files: Path) -> None:
    picture(files / "q.png", 30)
    config = CONFIG.replace("Blob", "Dent")
    answer = client.post("/predict", json=asked("/data/local-files/?d=q.png", config)).json()
    assert answer["results"][0]["result"] == []


@pytest.mark.parametrize(
    ("address", "config", "said"),
    [
        ("/data/local-files/?d=../in/0.png", CONFIG, "not in"),
        ("/data/local-files/?d=none.png", CONFIG, "not in"),
        ("http://elsewhere/x.png", CONFIG, "not of http://studio:8080"),
        ("file:///etc/passwd", CONFIG, "not of http://studio:8080"),
        ("/data/local-files/?d=q.png", "<View/>", "no BrushLabels"),
        ("/data/local-files/?d=q.png", "<View", "no XML"),
        ("/data/local-files/?d=q.png", '<!DOCTYPE a [<!ENTITY b "c">]><View/>', "entities"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(
    client: TestClient, files: Path, address: str, config: str, said: str
) -> None:
    picture(files / "q.png", 30)
    answer = client.post("/predict", json=asked(address, config))
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


def test_a_task_without_an_image_is_named(client: TestClient) -> None:
    answer = client.post("/predict", json={"tasks": [{"id": 9, "data": {}}], "label_config": CONFIG})
    assert answer.status_code == 400
    assert "task 9: has no picture" in answer.json()["detail"]


def test_the_result_is_of_numbers_that_json_has(client: TestClient, files: Path) -> None:
    picture(files / "q.png", 30)
    brush = client.post("/predict", json=asked("/data/local-files/?d=q.png")).json()["results"][0]["result"][
        0
    ]
    assert np.asarray(brush["value"]["rle"]).max() < 256
