"""A class as a file: onnxruntime gives what torch gives, at any number of squares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lerenet.cli.main import app
from lerenet.data.scaling import resize_image
from lerenet.enrolment.enrol import Given, enrol_class
from lerenet.enrolment.enrolled import Enrolled
from lerenet.enrolment.exporting import OUTPUTS, VERDICTS, export
from lerenet.enrolment.inspect import Inspector
from lerenet.errors import DataError
from lerenet.models.serialization import LoadedNetwork
from lerenet.params import EnrolmentSettings
from tests.helpers.prediction import SIZE, picture, pixels, truth

pytestmark = pytest.mark.usefixtures("prepared_for_classes")


@pytest.fixture
def enrolled(tmp_path: Path, loaded: LoadedNetwork) -> Enrolled:
    marked = [picture(tmp_path / "in" / f"{seed}.png", seed) for seed in range(6)]
    good = [tmp_path / "good" / f"{seed}.png" for seed in range(6)]
    for seed, path in enumerate(good):
        picture(path, 50 + seed)
    given = Given([(path, [truth(path)]) for path in marked], good)
    return enrol_class("Blob", given, loaded, tmp_path / "enrolments", EnrolmentSettings(steps=5), 0)


@pytest.mark.filterwarnings("ignore")
def test_a_file_answers_as_the_inspector(enrolled: Enrolled, loaded: LoadedNetwork, tmp_path: Path) -> None:
    import onnxruntime

    export(loaded, enrolled, tmp_path / "blob.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "blob.onnx")
    inspector = Inspector(loaded, [enrolled])
    queries = [pixels(picture(tmp_path / "q" / f"{seed}.png", 70 + seed, (SIZE, SIZE))) for seed in range(3)]
    for some in (queries[:1], queries):
        squares = np.stack([resize_image(one, SIZE) for one in some])
        found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"squares": squares}), strict=True))
        for number, query in enumerate(some):
            own = inspector(query)
            (said,) = own.classes
            assert found["score"][number] == pytest.approx(said.score, abs=1e-3)
            assert VERDICTS[found["verdict"][number]] == said.verdict
            served, mask = own.marks > 0, found["mask"][number] > 0
            union = (served | mask).sum()
            assert union == 0 or (served & mask).sum() / union >= 0.99
    about = {
        key: json.loads(value)
        for key, value in session.get_modelmeta().custom_metadata_map.items()
        if "lerenet" in key
    }
    assert about["lerenet.class"] == "Blob"
    assert (about["lerenet.size"], about["lerenet.side"]) == (SIZE, 0)


def test_what_does_not_fit_is_refused(enrolled: Enrolled, loaded: LoadedNetwork, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one of onnx, openvino"):
        export(loaded, enrolled, tmp_path / "a.onnx", "tensorrt")
    with pytest.raises(DataError, match=r"let it end in \.onnx"):
        export(loaded, enrolled, tmp_path / "a.bin")
    with torch.no_grad():
        other = next(loaded.network.backbone.parameters())
        kept = other.clone()
        other += 1
        try:
            with pytest.raises(DataError, match="another network"):
                export(loaded, enrolled, tmp_path / "a.onnx")
        finally:
            other.copy_(kept)
    assert not list(tmp_path.glob("a.*"))
    done = CliRunner().invoke(
        app,
        ["export", "None", "--out", "x.onnx", "--model", "matching", "--from", str(tmp_path / "enrolments")],
    )
    assert done.exit_code != 0
