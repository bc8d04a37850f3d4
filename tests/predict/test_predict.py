"""Prediction: masks of the query's own size, several values after one flag, nothing half-written."""

from __future__ import annotations

import copy
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from lerenet.cli.list_options import ListCommand, expand
from lerenet.cli.predict import pair_up, predict_command
from lerenet.drawing import OUTLINE, draw_overlay
from lerenet.errors import DataError, ModelError, TrackingError
from lerenet.files import read_json, write_json
from lerenet.inference import prepare
from lerenet.models import configure
from lerenet.models.config import NetworkConfig
from lerenet.models.serialization import LoadedNetwork, _network_of, load_network, save_network
from lerenet.predict import Pair, open_model, predict
from tests.helpers.prediction import SIZE, names, picture, pixels, truth


def test_files_and_numbers(support: Pair, tmp_path: Path, loaded: LoadedNetwork) -> None:
    sizes = [(33, 71), (200, 40), (96, 96)]
    queries = [picture(tmp_path / "in" / f"part{n}.png", n, size) for n, size in enumerate(sizes)]
    out = tmp_path / "out"
    found = predict([support], queries, out, loaded)
    assert [row.query for row in found.predictions] == [str(path) for path in queries]
    for row, size in zip(found.predictions, sizes, strict=True):
        values, overlay = pixels(out / row.mask), pixels(out / row.overlay)
        assert (values.shape, overlay.shape) == (size[::-1], (*size[::-1], 3))
        assert set(np.unique(values)) <= {0, 255}
        assert row.foreground == pytest.approx((values == 255).mean(), abs=1e-5)
        assert 0.5 <= row.confidence <= 1
        assert row.milliseconds > 0
    assert json.loads((out / "predictions.json").read_text())["predictions"][0]["mask"] == "part0_mask.png"
    with (out / "predictions.csv").open() as handle:
        assert [row["query"] for row in csv.DictReader(handle)] == [str(path) for path in queries]
    assert len(names(out)) == 2 * 3 + 2


def test_backbone_sees_supports_once(support: Pair, tmp_path: Path, loaded: LoadedNetwork) -> None:
    queries = [picture(tmp_path / "in" / f"q{n}.png", n) for n in range(10)]
    seen: list[int] = []
    hook = loaded.network.backbone.register_forward_pre_hook(lambda net, args: seen.append(len(args[0])))
    predict([support], queries, tmp_path / "out", loaded)
    hook.remove()
    folding = [1, 1]  # a picture of noise, with and without normalisation
    fusing = [1, 1]  # the same, fused and not
    once = [1] * 10
    assert seen == [*folding, *fusing, 1, *once]


def test_same_as_the_network_end_to_end(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    square = picture(tmp_path / "in" / "square.png", 5, (SIZE, SIZE))
    other = picture(tmp_path / "in" / "other.png", 6, (SIZE, SIZE))
    predict([(square, truth(square))], [other, query], tmp_path / "out", loaded)
    images = [torch.from_numpy(pixels(path)).permute(2, 0, 1)[None] / 255 for path in (square, other)]
    mask = torch.from_numpy(pixels(truth(square)) > 0).float()
    with torch.inference_mode():
        logits = loaded.network(images[0][None], mask[None, None], images[1])[0]
    written = pixels(tmp_path / "out" / "other_mask.png") > 0
    assert (written == (logits > 0).numpy()).mean() > 0.999


def test_bundled_weights_find_the_blob(support: Pair, query: Path, tmp_path: Path) -> None:
    found = predict([support], [query], tmp_path / "out", "matching", image_size=SIZE)
    mask = pixels(tmp_path / "out" / found.predictions[0].mask) > 0
    real = pixels(truth(query)) > 0
    assert mask[real].mean() > 0.5 > mask[~real].mean()


def test_five_supports_are_taken_six_refused(query: Path, tmp_path: Path, loaded: LoadedNetwork) -> None:
    paths = [picture(tmp_path / "in" / f"s{n}.png", n + 10) for n in range(6)]
    pairs = [(path, truth(path)) for path in paths]
    assert len(predict(pairs[:5], [query], tmp_path / "out", loaded).supports) == 5
    for wrong in (pairs, []):
        with pytest.raises(DataError, match="1 to 5"):
            predict(wrong, [query], tmp_path / "none", loaded)
    assert not (tmp_path / "none").exists()


def test_one_file_given_twice_is_done_once(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    again = query.parent / ".." / "in" / query.name
    assert len(predict([support], [query, again], tmp_path / "out", loaded).predictions) == 1


def _grey(path: Path, value: int, size: tuple[int, int] = (80, 60)) -> Path:
    Image.new("L", size, value).save(path)
    return path


def test_bad_supports_and_queries(support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork) -> None:
    image, mask = support
    folder = image.parent
    broken = folder / "broken.png"
    broken.write_bytes(image.read_bytes()[:200])
    other = picture(folder / "other.png", 9)
    nothing = folder / "nothing"
    nothing.mkdir()
    cases: list[tuple[list[Pair], list[Path], str]] = [
        ([(image, _grey(folder / "empty.png", 0))], [query], "empty.png: marks no pixel"),
        (
            [(image, _grey(folder / "small.png", 255, (40, 30)))],
            [query],
            "small.png: 40 x 30 pixels.*80 x 60",
        ),
        ([(image, mask), (other, mask)], [query], "given as support mask 2 times"),
        ([(image, mask), (image, mask)], [query], "given as support mask 2 times"),
        ([(image, folder / "gone.png")], [query], "gone.png: not found"),
        ([support], [], "no query"),
        ([(folder, mask)], [query], "is a folder"),
        ([support], [nothing], "no image in it"),
        ([support], [query, folder / "gone.jpg"], "gone.jpg: not found"),
        ([(broken, mask)], [query], "broken.png"),
    ]
    for supports, queries, words in cases:
        with pytest.raises(DataError, match=words):
            predict(supports, queries, tmp_path / "out", loaded)
        assert not (tmp_path / "out").exists(), words


def test_support_as_query_warns(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    copy = query.with_name("copy.png")
    copy.write_bytes(support[0].read_bytes())
    found = predict([support], [query, copy], tmp_path / "out", loaded)
    assert len(found.warnings) == 1
    assert "copy.png" in found.warnings[0]
    assert "flatters" in caplog.text


def test_a_tiny_defect_survives_resizing_and_is_told_to_be_hardly_seen(
    query: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    image = picture(tmp_path / "in" / "large.png", 3, (900, 700))
    marked = np.zeros((700, 900), np.uint8)
    marked[350, 450] = 255
    Image.fromarray(marked).save(truth(image))
    found = predict([(image, truth(image))], [query], tmp_path / "out", loaded)
    (note,) = found.warnings
    assert "large.png: brought from 900 x 700 to 96 x 96, its defect is about 2 pixels wide" in note
    assert "lerenet inspect" in note


def test_overlay_marks_the_outline_and_leaves_the_rest() -> None:
    image, mask = np.full((50, 60, 3), 100, np.uint8), np.zeros((50, 60), bool)
    mask[20:30, 20:30] = True
    drawn = draw_overlay(image, mask)
    assert (drawn[19, 25] == OUTLINE).all()
    assert (drawn[25, 25] != 100).any()
    assert (drawn[0, 0] == 100).all()
    assert (draw_overlay(image, np.zeros_like(mask)) == image).all()


# Models


@pytest.fixture
def folder(tmp_path: Path, loaded: LoadedNetwork) -> Path:
    """A saved model folder, as the train stage writes it."""
    config = {**loaded.config, "threshold": 0.5}
    save_network(tmp_path / "cell" / "model", loaded.network.head, loaded.network.backbone, config)
    return tmp_path / "cell" / "model"


def test_a_saved_folder_predicts_the_same(
    support: Pair, query: Path, folder: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    masks = []
    for name, model in (("a", loaded), ("b", str(folder)), ("c", str(folder.parent))):
        predict([support], [query], tmp_path / name, model)
        masks.append((tmp_path / name / "query_mask.png").read_bytes())
    assert masks[0] == masks[1] == masks[2]


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ({"name": "matching", "preset": "default", "levels": [2, 3], "grid": 20, "shots": "average", "mpr": True},
         configure("matching", levels=(2, 3), side=20, shot_fusion="average")),
        ({"name": "baseline", "preset": "default", "levels": None, "grid": None, "shots": "concat", "mpe": True},
         configure("baseline")),
        ({"name": "bam", "preset": "default", "levels": [2, 3, 4], "grid": 8, "width": 8, "edge": True, "turns": 1},
         configure("bam", levels=(2, 3, 4), side=8, width=8, turns=1)),
    ],
)  # fmt: skip
def test_settings_that_an_earlier_release_wrote_are_read(
    former: dict[str, object], now: NetworkConfig
) -> None:
    assert _network_of(former) == now


def test_odd_folders_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="sha256"):
        load_network(folder, "0" * 64)
    config = read_json(folder / "config.json")
    for changed in (
        {"weights_sha256": "1" * 64},
        {"image_size": 7},
        {"threshold": 2},
        {"backbone": "unknown_net"},
        {"model": {"name": "lerenet", "colour": 3}},
        {"model": {"name": "lerenet"}},
        {"levels": "x"},
    ):
        write_json(folder / "config.json", {**config, **changed})
        with pytest.raises(ModelError):
            load_network(folder)
    write_json(folder / "config.json", {k: v for k, v in config.items() if k != "backbone"})
    with pytest.raises(ModelError, match="no 'backbone'"):
        load_network(folder)
    write_json(folder / "config.json", {k: v for k, v in config.items() if k != "weights_sha256"})
    weights = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(weights[:-100])
    with pytest.raises(ModelError, match="safetensors"):
        load_network(folder)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match="no model there"):
        load_network(folder)


def test_unknown_model_lists_the_choices() -> None:
    with pytest.raises(ModelError, match="champion, a version number, matching"):
        open_model("best")


def test_no_champion_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from lerenet.registry import versions as registry

    def none(model: str) -> Path:
        raise TrackingError("there is no champion yet", "run the retraining, or `lerenet promote VERSION`")

    monkeypatch.setattr(registry, "resolve", none)
    with pytest.raises(ModelError) as error:
        open_model("champion")
    for word in ("no champion yet", "promote", "dvc repro", "--model matching"):
        assert word in str(error.value)


def test_champion_comes_from_the_registry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lerenet.registry import copies, registered
    from lerenet.registry import versions as registry

    known = {
        name: registered.Version(number, {}, (), "", "") for name, number in (("champion", "7"), ("12", "12"))
    }
    monkeypatch.setattr(registry, "find", known.__getitem__)
    monkeypatch.setattr(copies, "verified", lambda version: folder)
    assert open_model("champion").source == str(folder)
    assert open_model("champion").version == "7"
    assert open_model("12").version == "12"


def test_what_predicts_is_folded_and_gives_the_same_masks(loaded: LoadedNetwork) -> None:
    exact = copy.deepcopy(loaded)
    for part in exact.network.backbone.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(part.running_mean, std=0.1)
            torch.nn.init.uniform_(part.running_var, 0.8, 1.2)
    images, masks = torch.rand(1, 2, 3, SIZE, SIZE), torch.zeros(1, 2, SIZE, SIZE)
    masks[..., 20:40, 20:40] = 1
    ready = prepare(exact)
    norms = [
        sum(isinstance(part, torch.nn.BatchNorm2d) for part in found.network.modules())
        for found in (exact, ready)
    ]
    assert norms[0] > norms[1] == 0
    with torch.inference_mode():
        one, other = (found.network(images, masks, images[:, 0]) for found in (exact, ready))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    assert 0 < (one > 0).sum() < one.numel()


# Command line

app = Typer()
app.command(cls=ListCommand)(predict_command)


def test_several_values_after_one_flag(support: Pair, tmp_path: Path, folder: Path) -> None:
    second = picture(tmp_path / "in" / "second.png", 7)
    queries = [picture(tmp_path / "in" / f"q{n}.jpg", n) for n in range(3)]
    args = ["--support", *support, second, truth(second), "--query", *queries, "--out", tmp_path / "out"]
    done = CliRunner().invoke(app, [str(arg) for arg in [*args, "--model", folder]])
    assert done.exit_code == 0, done.output
    assert "3 images" in done.output
    assert len(list((tmp_path / "out").glob("*_mask.png"))) == 3


def test_json_on_stdout(support: Pair, query: Path, tmp_path: Path, folder: Path) -> None:
    args = ["-s", *support, "-q", query, "-o", tmp_path / "out", "-m", folder, "--json"]
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert json.loads(done.stdout)["predictions"][0]["query"] == str(query)
    assert json.loads(done.stdout) == read_json(tmp_path / "out" / "predictions.json")


def test_expand() -> None:
    several = ("-s", "--query")
    for written, meant in (
        ("--query a b --out o x", "--query a --query b --out o x"),
        ("-s a am -s b bm", "-s a -s am -s b -s bm"),
        ("--query=a b -- --query c", "--query=a --query b -- --query c"),
    ):
        assert expand(written.split(), several) == meant.split()


def test_pairs() -> None:
    assert pair_up([Path("a"), Path("am")]) == [(Path("a"), Path("am"))]
    with pytest.raises(DataError, match="has no mask"):
        pair_up([Path("a"), Path("am"), Path("b")])


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from lerenet.cli.predict import predict_command; "
        "print({'torch', 'mlflow', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout.strip() == "set()"


def test_the_matcher_of_predict_is_the_floor_on_the_defaults_features() -> None:
    from lerenet.models.serialization import matching_network

    network = matching_network(64, "efficientnet_lite0", "random").network
    assert network.head.levels == (2, 3, 4)
    assert network.backbone.turns == 4
    plain = matching_network(64, "resnet50", "random").network
    assert plain.head.levels == (2, 3)
    assert plain.backbone.turns == 1
