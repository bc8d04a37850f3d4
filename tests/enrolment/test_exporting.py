"""A class as a file: onnxruntime and OpenVINO give what torch gives, at any number of squares."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from lerenet.cli.main import app
from lerenet.data.scaling import resize_image
from lerenet.enrolment.enrol import Given, enrol_class
from lerenet.enrolment.enrolled import Enrolled
from lerenet.enrolment.exporting import INSTALL, OUTPUTS, VERDICTS, export
from lerenet.enrolment.inspect import Inspector
from lerenet.errors import DataError, ModelError
from lerenet.models.serialization import LoadedNetwork
from lerenet.params import EnrolmentSettings
from tests.helpers.factories import texture
from tests.helpers.prediction import SIZE, picture, pixels, truth

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("prepared_for_classes")]
Answers = Mapping[str, NDArray[Any]]
Program = Callable[[NDArray[np.uint8]], Answers]


@pytest.fixture
def enrolled(tmp_path: Path, loaded: LoadedNetwork) -> Enrolled:
    marked = [picture(tmp_path / "in" / f"{seed}.png", seed) for seed in range(6)]
    good = [plain(tmp_path / "good" / f"{seed}.png", 50 + seed) for seed in range(6)]
    given = Given([(path, [truth(path)]) for path in marked], good)
    return enrol_class("Blob", given, loaded, tmp_path / "enrolments", EnrolmentSettings(steps=5), 0)


def plain(path: Path, seed: int) -> Path:
    """A texture without a blob."""
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(texture(np.random.default_rng(seed), 1, SIZE)).save(path)
    return path


def in_onnxruntime(path: Path) -> tuple[Program, dict[str, Any]]:
    """The file as onnxruntime runs it, and what it says of itself."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    about = session.get_modelmeta().custom_metadata_map
    said = {
        key.removeprefix("lerenet."): json.loads(text)
        for key, text in about.items()
        if key.startswith("lerenet.")
    }
    return lambda squares: dict(
        zip(OUTPUTS, session.run(list(OUTPUTS), {"squares": squares}), strict=True)
    ), said


def in_openvino(path: Path) -> tuple[Program, dict[str, Any]]:
    """Likewise OpenVINO, in the precision of torch."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    said = {name: json.loads(value.value) for name, value in model.get_rt_info()["lerenet"].items()}

    def run(squares: NDArray[np.uint8]) -> Answers:
        answer = compiled({"squares": squares})
        return {name: answer[name] for name in OUTPUTS}

    return run, said


RUNNERS = {"onnx": (".onnx", in_onnxruntime), "openvino": (".xml", in_openvino)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_a_file_answers_as_the_inspector(
    kind: str, enrolled: Enrolled, loaded: LoadedNetwork, tmp_path: Path
) -> None:
    ending, opened = RUNNERS[kind]
    if kind == "openvino":
        pytest.importorskip("openvino")
    file = tmp_path / f"blob{ending}"
    export(loaded, enrolled, file, kind)
    run, about = opened(file)
    inspector = Inspector(loaded, [enrolled])
    paths = [picture(tmp_path / "q" / f"{seed}.png", 70 + seed, (SIZE, SIZE)) for seed in range(3)]
    queries = [pixels(path) for path in (*paths, plain(tmp_path / "q" / "plain.png", 80))]
    marked = 0
    for some in (queries[:1], queries):
        found = run(np.stack([resize_image(one, SIZE) for one in some]))
        for number, query in enumerate(some):
            own = inspector(query)
            (said,) = own.classes
            assert found["score"][number] == pytest.approx(said.score, abs=1e-3)
            assert VERDICTS[found["verdict"][number]] == said.verdict
            served, mask = own.marks > 0, found["mask"][number] > 0
            union = (served | mask).sum()
            assert union == 0 or (served & mask).sum() / union >= 0.99
            marked += int(union)
    assert marked
    assert (about["class"], about["size"], about["side"]) == ("Blob", SIZE, 0)
    assert about["verdicts"] == list(VERDICTS)


def test_what_does_not_fit_is_refused(enrolled: Enrolled, loaded: LoadedNetwork, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one of onnx, openvino"):
        export(loaded, enrolled, tmp_path / "a.onnx", "tensorrt")
    with pytest.raises(DataError, match=r"no name for onnx\s+-> let it end in \.onnx"):
        export(loaded, enrolled, tmp_path / "a.bin")
    with pytest.raises(DataError, match=r"let it end in \.xml"):
        export(loaded, enrolled, tmp_path / "a.onnx", "openvino")
    with torch.no_grad():
        other = next(loaded.network.backbone.parameters())
        kept = other.clone()
        other += 1
        try:
            with pytest.raises(DataError, match="Blob: was enrolled with another network"):
                export(loaded, enrolled, tmp_path / "a.onnx")
        finally:
            other.copy_(kept)
    assert not list(tmp_path.glob("a.*"))


def test_what_can_not_be_exported_is_refused_by_name(
    enrolled: Enrolled, loaded: LoadedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    def unable(*_: object, **__: object) -> None:
        raise RuntimeError("no way to write aten::strange\nand a page more")

    def fixed(*_: object, **__: object) -> SimpleNamespace:
        squares = onnx.helper.make_tensor_value_info("squares", onnx.TensorProto.UINT8, [2, SIZE, SIZE, 3])
        graph = onnx.helper.make_graph([], "fixed", [squares], [])
        return SimpleNamespace(model_proto=onnx.helper.make_model(graph))

    file = tmp_path / "a.onnx"
    backbone = loaded.network.backbone.name
    monkeypatch.setattr(torch.onnx, "export", unable)
    with pytest.raises(ModelError) as told:
        export(loaded, enrolled, file)
    assert f"Blob: {backbone} with {enrolled.reader} can't be exported: no way to write aten::strange" in str(
        told.value
    )
    assert "page more" not in str(told.value)
    monkeypatch.setattr(torch.onnx, "export", fixed)
    with pytest.raises(
        ModelError, match=f"Blob: {enrolled.reader} can't be exported for any number of squares"
    ):
        export(loaded, enrolled, file)
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.parametrize(("kind", "library"), [("onnx", "onnxscript"), ("openvino", "openvino")])
def test_a_library_that_is_not_there_is_named_with_the_way_to_get_it(
    kind: str,
    library: str,
    enrolled: Enrolled,
    loaded: LoadedNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind == "openvino":
        monkeypatch.setattr("lerenet.enrolment.exporting._program", lambda *_: None)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelError) as told:
        export(loaded, enrolled, tmp_path / f"a{RUNNERS[kind][0]}", kind)
    assert "is not installed" in str(told.value)
    assert INSTALL in str(told.value)


def test_a_class_that_is_not_enrolled_is_told_with_those_that_are(
    enrolled: Enrolled, loaded: LoadedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lerenet.predict.inspecting.open_inspection", lambda model: (loaded, [enrolled]))
    words = ["export", "Scratch", "--out", str(tmp_path / "a.onnx"), "--from", str(tmp_path / "none")]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, DataError)
    assert "Scratch: no such class is enrolled" in str(done.exception)
    assert "Blob" in str(done.exception)
