"""The report page: self-contained, true to its input, and content with what is there."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from lerenet.errors import LerenetError
from lerenet.params import Params
from lerenet.report.build import build_report, results_markdown
from lerenet.report.load import load
from lerenet.report.paper import printed, printed_cost
from lerenet.report.tables import main_rows
from tests.report_fixture import BACKBONE, CLASSES, make_artifacts

PARAMS = Params.model_validate({"gate": {"draws": 200}})


class Page(HTMLParser):
    """Attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(" ".join(data.split()))

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for _, attrs in self.tags if attribute in attrs]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_artifacts(tmp_path_factory.mktemp("project") / "artifacts")
    build_report(root, PARAMS, root / "report")
    return root


@pytest.fixture(scope="module")
def page(built: Path) -> Page:
    return Page((built / "report" / "report.html").read_text(encoding="utf-8"))


def test_no_request_leaves_the_machine(built: Path, page: Page) -> None:
    text = (built / "report" / "report.html").read_text(encoding="utf-8")
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "base")]
    assert all(value.startswith("data:image/jpeg;base64,") for value in page.values("src"))
    for attribute in ("href", "xlink:href"):
        assert all(value.startswith("#") for value in page.values(attribute))
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", text))


def test_links_and_references_inside_the_page_have_targets(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = {value[1:] for name in ("href", "xlink:href") for value in page.values(name)}
    assert targets <= set(ids)
    assert set(page.values("aria-labelledby")) <= set(ids)


def test_every_picture_says_what_it_shows(page: Page) -> None:
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 3 * 12
    assert all(attrs.get("alt") for attrs in images)
    assert all(attrs.get("aria-label") for tag, attrs in page.tags if tag == "svg")


def test_the_numbers_are_those_of_the_stages(built: Path, page: Page) -> None:
    metrics = json.loads((built / "report" / "metrics.json").read_text())
    total = 0.0
    for fold in CLASSES:
        summary = json.loads(
            (built / "evaluate" / f"{fold}-{BACKBONE}-lerenet-1-0" / "summary.json").read_text()
        )
        (row,) = [row for row in summary if row["protocol"] == "groups" and row["shots"] == 1]
        assert metrics[f"lerenet.1shot.{fold}.miou"] == pytest.approx(row["miou"], abs=1e-5)
        assert f"{row['miou']:.1f}" in page.text
        assert f"{row['miou_low']:.1f} to {row['miou_high']:.1f}" in page.text
        assert all(f"{value:.1f}" in page.text for value in row["classes"].values())
        total += row["miou"]
    assert metrics["lerenet.1shot.miou"] == pytest.approx(total / 3, abs=1e-5)
    assert (
        metrics["lerenet.1shot.miou_low"] < metrics["lerenet.1shot.miou"] < metrics["lerenet.1shot.miou_high"]
    )
    gain = metrics["lerenet.1shot.miou"] - metrics["matching.1shot.miou"]
    assert metrics["lerenet.1shot.gain_over_matching"] == pytest.approx(gain, abs=1e-5)


def test_floors_come_first_and_all_are_there(built: Path) -> None:
    rows = main_rows(load(built, PARAMS), 1, PARAMS)
    assert [row.model.id for row in rows] == [
        "all_foreground",
        "all_background",
        "prototype",
        "matching",
        "lerenet",
    ]


def test_provenance_is_on_the_page(page: Page) -> None:
    text = " ".join(page.text)
    for wanted in (
        "0123456789abcdef" * 2,
        "Data hash (DVC)",
        "Git commit",
        "cores",
        "torch",
        "validation passed",
    ):
        assert wanted in text


@pytest.mark.parametrize(
    ("lift", "said"), [(0.8, "above matching"), (-0.8, "below matching"), (0.0, "be told apart")]
)
def test_the_finding_is_honest(tmp_path: Path, lift: float, said: str) -> None:
    root = make_artifacts(tmp_path / "artifacts", lift=lift)
    build_report(root, PARAMS, root / "report")
    assert said in (root / "report" / "report.html").read_text(encoding="utf-8")


def test_missing_cells_are_tolerated_and_named(tmp_path: Path) -> None:
    root = make_artifacts(tmp_path / "artifacts", folds=("fold0", "fold2"))
    build_report(root, PARAMS, root / "report")
    page = Page((root / "report" / "report.html").read_text(encoding="utf-8"))
    assert any("1 of 3 folds not evaluated" in text for text in page.text)
    assert any("2 of 3 folds" in text for text in page.text)


def test_an_empty_project_still_gives_a_page(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    build_report(tmp_path / "artifacts", PARAMS, tmp_path / "report")
    text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "No model has been evaluated yet" in text
    assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == {}


def test_a_broken_file_is_named_and_the_old_page_stays(tmp_path: Path) -> None:
    root = make_artifacts(tmp_path / "artifacts", folds=("fold0",))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").write_text("old")
    (root / "folds" / "folds.json").write_text("{")
    with pytest.raises(LerenetError, match=r"folds\.json"):
        build_report(root, PARAMS, tmp_path / "report")
    assert (tmp_path / "report" / "report.html").read_text() == "old"


def test_special_characters_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>&\"'"
    root = make_artifacts(tmp_path / "artifacts", folds=("fold1",), queries=3)
    for path in root.glob("**/*.parquet"):
        table = pd.read_parquet(path)
        table["cls"] = table["cls"].replace("leather", evil)
        table.to_parquet(path)
    for path in [*root.glob("*/*/summary.json"), root / "folds" / "folds.json"]:
        path.write_text(path.read_text().replace("leather", json.dumps(evil)[1:-1]))
    build_report(root, PARAMS, root / "report")
    page = Page((root / "report" / "report.html").read_text(encoding="utf-8"))
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert evil in page.text


def test_seeds_are_rows_of_their_own_with_their_spread(tmp_path: Path) -> None:
    root = make_artifacts(tmp_path / "artifacts", seeds=(0, 1), queries=3)
    build_report(root, PARAMS, root / "report")
    metrics = json.loads((root / "report" / "metrics.json").read_text())
    assert metrics["lerenet-seed1.1shot.miou"] != metrics["lerenet.1shot.miou"]
    assert "Spread over training seeds" in (root / "report" / "report.html").read_text(encoding="utf-8")


def test_plots_for_dvc(built: Path) -> None:
    classes = pd.read_csv(built / "report" / "plots" / "classes.csv")
    assert set(classes["model"]) == {"lerenet", "matching"}
    assert (classes["low"] <= classes["iou"]).all()
    assert (classes["iou"] <= classes["high"]).all()
    curves = pd.read_csv(built / "report" / "plots" / "curves.csv")
    assert curves["cell"].nunique() == 3


def test_the_markdown_holds_the_same_numbers(built: Path) -> None:
    (built.parent / "params.yaml").write_text("gate: {draws: 200}\n")
    (built.parent / "data.dvc").write_text("outs: [{md5: 0a1b2c.dir, path: data}]\n")
    text = results_markdown(built)
    metrics = json.loads((built / "report" / "metrics.json").read_text())
    score = [metrics[f"lerenet.1shot.miou{part}"] for part in ("", "_low", "_high")]
    assert "{:.1f} ({:.1f} to {:.1f})".format(*score) in text
    for wanted in (
        "`0a1b2c.dir`",
        "Matching",
        "## Clean queries",
        "| train | 3 | 222.0 s |",
        "above matching",
    ):
        assert wanted in text


def test_the_papers_numbers_are_as_printed() -> None:
    rows = [row for row in printed() if (row.table, row.backbone, row.method) == (2, "ResNet50", "LERENet")]
    assert [(row.shots, row.miou, row.fb_iou) for row in rows] == [
        (1, "38.33", "58.77"),
        (5, "41.89", "59.10"),
    ]
    assert [(row.method, row.gflops) for row in printed_cost()] == [("TGRNet", "83.69"), ("LERENet", "69.85")]
