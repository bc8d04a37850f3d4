"""The benchmarks run on a tiny project and report what was measured; how fast it is, is not asserted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks import batch, exported, large, page, query, training, untrained
from benchmarks.__main__ import app
from benchmarks.results import Row, ratio
from benchmarks.scale import KEPT
from lerenet.errors import ParamsError
from lerenet.files import write_json
from lerenet.models import configure
from lerenet.models.backbones.factory import Backbone
from tests.helpers.pipeline import make_project

SMALL = {"name": "lerenet", "preset": "authors", "side": 4, "width": 8}
RECIPES = {
    "lerenet": {"model": {"name": "lerenet", "side": 8, "width": 8, "turns": 4}},
    "trained": {"model": SMALL, "train": {"backbone_lr_scale": 0.1}},
}
WORDS = ["--init", "random", "--backbone", "resnet18", "--threads", "1", "--quick", "--out", "found"]

MACHINE: dict[str, Any] = {"cpu": "one", "cores": 2, "torch": "2", "date": "today"}  # that ran a benchmark


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A small project as the current folder, small networks."""
    with small_project(tmp_path, monkeypatch):
        yield


@contextmanager
def small_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    make_project(folder, levels=[1, 2], views={"count": 0}, recipes=RECIPES)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(query, "BACKBONES", {"resnet18": 60.0})
    monkeypatch.setattr(training, "TRAINED", {"trained": configure(**SMALL)})
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*words, *WORDS], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(Path("found", f"{words[0]}.json").read_text())
    assert {"date", "git_commit", "cpu", "threads", "torch", "fold", "images"} <= set(found["facts"])
    return found


def names(section: dict[str, Any]) -> list[str]:
    assert all(value > 0 for row in section["rows"] for value in row["values"])
    return [row["name"] for row in section["rows"]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, set[int]]]:
    """What `training` found, and how often a backbone, frozen or in training, turned the images that it saw."""
    seen: dict[str, set[int]] = {}
    forward = Backbone.forward

    def counted(self: Backbone, images: torch.Tensor) -> list[torch.Tensor]:
        seen.setdefault("trained" if self.training else "frozen", set()).add(self.turns)
        return forward(self, images)

    with pytest.MonkeyPatch.context() as patch, small_project(tmp_path_factory.mktemp("trained"), patch):
        patch.setattr(Backbone, "forward", counted)
        return run("training"), seen


def test_training_is_compared_with_both_plain_ways(trained: tuple[dict[str, Any], Any]) -> None:
    (section,) = trained[0]["sections"]
    speeds = names(section)[:4]
    mine, others = speeds[:2], speeds[2:]
    assert mine == [training.FIRST, training.KEPT]
    assert others == [training.PLAIN, "trained"]
    assert names(section)[4:8] == [f"{one}, over {other}" for one in mine for other in others]
    values = [row["median"] for row in section["rows"]]
    assert values[6] == pytest.approx(values[1] / values[2])


def test_a_trained_backbone_sees_an_image_as_often_as_its_own_head_asks(
    trained: tuple[Any, dict[str, set[int]]],
) -> None:
    assert trained[1] == {"frozen": {4}, "trained": {1}}


def test_evaluation_is_compared_with_one_by_one() -> None:
    (section,) = run("evaluation", "--fold", "fold2")["sections"]
    assert "4 episodes of fold2" in section["title"]
    assert len(names(section)) == 5


def test_a_query_is_timed_in_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "has_bf16", lambda kind: True)
    (section,) = run("query")["sections"]
    assert [row["name"] for row in section["rows"]] == [f"resnet18, {way}" for way in query.WAYS]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_bounded_schedule_stops_at_a_whole_epoch(recipe: str) -> None:
    (section,) = run("schedule", "--epochs", "200", "--steps", "6", "--recipe", recipe)["sections"]
    rows = {row["name"]: row for row in section["rows"]}
    an_epoch = int(rows["steps"]["note"].split()[0])
    assert an_epoch < 6 <= rows["steps"]["median"] < 6 + an_epoch
    assert rows["wall time"]["note"].endswith("of 200 epochs")


OTHER = """
from PIL import Image

def open_model(name):
    return name

def predict(supports, queries, out, loaded):
    out.mkdir()
    for path in queries:
        Image.new("L", Image.open(path).size).save(out / f"{path.stem}_mask.png")
"""


@pytest.mark.slow
def test_a_batch_is_compared_with_another_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one finds nothing, at once: as many pixels differ as this one finds."""
    other = tmp_path / "other"
    (other / "lerenet").mkdir(parents=True)
    (other / "lerenet" / "predict.py").write_text(OTHER)
    (other / "torch.py").write_text("def set_num_threads(number): pass")
    found, real = [], batch._run

    def counted(tree: Path, folder: Path, out: Path, threads: int) -> tuple[float, float]:
        times = real(tree, folder, out, threads)
        if tree == batch.HERE:
            found.append(sum(int((batch._mask(path) > 0).sum()) for path in out.glob("*_mask.png")))
        return times

    monkeypatch.setattr(batch, "_run", counted)
    monkeypatch.setattr(batch, "SIZES", {40: 3})
    (section,) = run("batch", "--beside", str(other))["sections"]
    rows = {row["name"]: row for row in section["rows"]}
    assert 0 < found[0] < 3 * 40 * 40
    assert rows["40 x 40, pixels that differ"]["values"] == found
    speeds = [rows[f"40 x 40, {name}"]["median"] for name in ("this one", "the other")]
    assert rows["40 x 40, this one over the other"]["median"] == pytest.approx(speeds[0] / speeds[1])


@pytest.mark.parametrize("words", [["--fold", "fold9"], ["--recipe", "nothing"]])
def test_a_wrong_name_is_told(words: list[str]) -> None:
    done = CliRunner().invoke(app, ["training", *words])
    assert isinstance(done.exception, ParamsError)
    assert words[1] in str(done.exception)


def test_a_row_shows_median_and_range() -> None:
    assert Row("a", "ms", (3.0, 1.0, 200.0)).cells() == ("a", "3", "1 to 200", "ms")
    assert Row("a", "ms", (3.0,), "once").cells() == ("a", "3", "", "ms, once")
    assert ratio("b", [6.0, 8.0], [2.0, 4.0]).values == (3.0, 2.0)


def test_untrained_scores_every_variant_on_the_base_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "matching, level 3 alone" not in untrained.readable((1, 2))
    kept = (
        "matching, level 2 alone",
        "matching, levels 2 to 4, 4 turns, grid 13",
        "LERENet's default, untrained",
    )
    monkeypatch.setattr(untrained, "VARIANTS", {name: untrained.VARIANTS[name] for name in kept})
    (section,) = run("untrained")["sections"]
    assert [row["name"] for row in section["rows"]] == list(kept)
    assert all(0 <= value <= 100 for row in section["rows"] for value in row["values"])


def test_a_page_keeps_the_sections_that_are_not_made_anew(tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    out.write_text(
        "# Old\n\nnote\n\n## Which class is answered\n\nold\n\n### more\n\n"
        "## Which class is answered\n\nolder\n\n## Size\n\nof last year\n"
    )
    row = {"images": 500, "classes": 25, "part": "start", "seconds": 1.0, "peak_mib": 9.0} | dict.fromkeys(
        KEPT, 1.0
    )
    found = {"machine": MACHINE, "steps": 15, "epochs": None, "rows": [row]}
    write_json(tmp_path / "scale.json", found)
    page.main(tmp_path, out, note="new", keep=True)
    text = out.read_text()
    kept = "## Which class is answered\n\nold\n\n### more\n\n## Which class is answered\n\nolder\n\n"
    assert f"{kept}## Size\n\none, 2, 2, today." in text
    assert "15 steps of fitting" in text
    assert "| `start` | 1.0 s, 9 MiB with files |" in text
    assert "last year" not in text
    assert text.startswith("# The live model, measured")
    page.main(tmp_path, out)
    assert "old" not in out.read_text()


def test_a_page_shows_scales_large_pictures_and_long_calls(tmp_path: Path) -> None:
    facts = {"machine": MACHINE, "data": "d.dir"}
    scores = {"iou": 30.0, "pro": 50.0, "auroc": 90.0, "called": None, "false_calls": 1.0}
    write_json(
        tmp_path / "scales.json",
        facts | {"seed": 0, "classes": {"KSDD": [{"side": side, **scores} for side in (0, 500)]}},
    )
    way = dict.fromkeys(large.FACTS, 2.0) | {
        "auroc": 95.5,
        "by size": {"below 0.01 %": {"defects": 5, "called": 40.0}},
    }
    size = {"class": "KSDD", "pictures": 42, "size": [6000, 4000], "ways": {"squares": way, "squashed": way}}
    write_json(tmp_path / "resolution" / "KSDD" / "resolution.json", facts | size)
    part = {"seconds": 9.6, "status": 0, "memory_mib_by_quarter": [800.0, 810.0], "memory_mib_most": 900.0}
    call = {"photos": 2000, "classes": ["A", "B"], "photos a second": 7.5, "whole": True}
    parts = {"stopped": part | {"done": 1000}, "gone on": part | {"made again": 0}}
    write_json(tmp_path / "line" / "line.json", facts | call | parts)
    page.main(tmp_path, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "| KSDD | whole | 30.0 | 50.0 | 90.0 | - | 1.0 |\n|  | 500 | 30.0" in text
    assert "| called, below 0.01 % of the picture (of 5) | 40.0 | 40.0 |" in text
    assert "`lerenet inspect` for A, B of their own photos" in text
    assert "7.5 photos a second, 0 made twice, every photo answered." in text
    assert "| stopped | 10 | 0 | 800, 810 | 900 |" in text


def test_parity_is_of_what_either_marks() -> None:
    own, other = np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8)
    own[0, 0], other[0, 0, :3], other[1, 0] = 1, 2, 1
    verdicts, scores = np.array([2, 0, 0]), np.array([1.0, 0.0, -1.0])
    found = exported.parity((other, np.array([2, 1, 0]), scores + 0.25), (own, verdicts, scores))
    assert found == {"marked": 2, "lowest IoU": 0.0, "median IoU": 0.375, "other verdicts": 1, "score": 0.25}
    empty = np.zeros_like(own)
    assert exported.parity((empty, verdicts, scores), (empty, verdicts, scores))["lowest IoU"] is None


def test_exported_classes_have_a_section(tmp_path: Path) -> None:
    facts = MACHINE | {"git_commit": "abcdef012", "load_before": 0.1}
    times = {"way": "onnxruntime", "pictures": 8, "milliseconds": [3.0, 5.0, 40.0], "median": 5.0}
    answer = {"marked": 2, "lowest IoU": 0.99996, "median IoU": 1.0, "other verdicts": 0, "score": 1e-6}
    row = {"class": "Pit", "reader": "fitted", "way": "onnxruntime", "pictures": 36} | answer
    found = {
        "timed": "Pit",
        "reader": "fitted",
        "size": 200,
        "repeats": 3,
        "latency": [times],
        "parity": [row],
    }
    write_json(
        tmp_path / "exported.json", found | {"machine": facts | {"threads": 2}, "data": "d0", "seed": 0}
    )
    page.main(tmp_path, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "## Exported classes" in text
    assert "Commit abcdef0; load before 0.1; data d0; seed 0; one, 2, 2, today." in text
    assert "| onnxruntime | 8 | 5 (3 to 40) |" in text
    assert "| Pit | fitted | onnxruntime | 2 of 36 | 0.9999 | 1.0000 | 0 | 1e-06 |" in text
