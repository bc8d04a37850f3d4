"""The report page: self-contained, true to its input, and content with what is there."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lerenet.cost.flops import measure_cost
from lerenet.errors import LerenetError
from lerenet.evaluation.metrics import METRICS
from lerenet.evaluation.resampling import interval, paired_bootstrap
from lerenet.models import configure
from lerenet.paper.printed import printed, printed_cost
from lerenet.params import Params
from lerenet.report.build import build_report, results_markdown
from lerenet.report.data import Data, collect
from lerenet.report.figures import SHOWN, figures
from lerenet.report.load import load
from lerenet.report.markdown import results
from tests.helpers.report import BACKBONE, CLASSES, make_artifacts

pytestmark = pytest.mark.whole

PARAMS = Params.model_validate({"evaluation": {"draws": 200}})


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


def results_text(root: Path, params: Params) -> str:
    return results(collect(root, params))


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
    assert len(images) == 3 * 12 + 2 * SHOWN
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


def test_the_live_models_classes_have_their_scores_and_curves(built: Path, page: Page) -> None:
    text = results_text(built, PARAMS)
    for wanted in ("61.8", "50.0 to 70.0", "97.2", "3.5 (at most 17)", "20 small, 0 large", "blend_edges"):
        assert wanted in " ".join(page.text)
        assert wanted in text
    assert "| class, IoU by examples | 1 | 5 | 10 | all |" in text
    assert "| Steel_Pa | 20.5 (10.0 to 30.0) | - | - | - |" in text
    assert "#live" in page.values("href")
    curve = collect(built, PARAMS).live[0].curve
    assert [point.count for point in curve] == ["1", "5", "10", "all"]


def test_floors_come_first_and_all_are_there(built: Path) -> None:
    rows = collect(built, PARAMS).rows[1]
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
    root = make_artifacts(tmp_path / "artifacts", lift=lift, queries=4)
    found = collect(root, PARAMS).findings
    assert [said in finding.sentence for finding in found] == [True, True]


EVIL = "<script>alert(1)</script>&\"'"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a project with a fold missing and a class of an evil name."""
    root = make_artifacts(tmp_path_factory.mktemp("odd") / "artifacts", folds=("fold0", "fold1"), queries=3)
    for path in root.glob("**/*.parquet"):
        table = pd.read_parquet(path)
        if "cls" in table:
            table.assign(cls=table["cls"].replace("leather", EVIL)).to_parquet(path)
    for path in [*root.glob("*/*/summary.json"), root / "folds" / "folds.json"]:
        path.write_text(path.read_text().replace("leather", json.dumps(EVIL)[1:-1]))
    build_report(root, PARAMS, root / "report")
    return Page((root / "report" / "report.html").read_text(encoding="utf-8"))


def test_missing_cells_are_tolerated_and_named(odd: Page) -> None:
    assert any("1 of 3 folds not evaluated" in text for text in odd.text)
    assert any("2 of 3 folds" in text for text in odd.text)


def test_special_characters_are_escaped(odd: Page) -> None:
    assert not [tag for tag, _ in odd.tags if tag == "script"]
    assert EVIL in odd.text


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


def literal(counts: list[pd.DataFrame], draws: list[dict[tuple[str, str], np.ndarray]]) -> np.ndarray:
    """mIoU of each draw by loops: for every fold the mean over seeds of the mean over classes of the IoU."""
    values = []
    for drawn in draws:
        folds = []
        for fold in sorted(counts[0]["split"].unique()):
            seeds = []
            for table in counts:
                ious = []
                for cls in sorted(table.loc[table["split"] == fold, "cls"].unique()):
                    rows = table[(table["split"] == fold) & (table["cls"] == cls)]
                    weight = dict(zip(sorted(rows["query"].unique()), drawn[fold, cls], strict=True))
                    sums = {
                        name: (rows[name] * rows["query"].map(weight)).sum() for name in ("tp", "fp", "fn")
                    }
                    ious.append(100 * sums["tp"] / sum(sums.values()))
                seeds.append(np.mean(ious))
            folds.append(np.mean(seeds))
        values.append(np.mean(folds))
    return np.array(values)


def test_seeds_become_one_row_with_their_mean_spread_and_joint_interval(tmp_path: Path) -> None:
    draws = 6
    params = Params.model_validate({"evaluation": {"draws": draws}})
    root = make_artifacts(tmp_path / "artifacts", seeds=(0, 1, 2), queries=3)
    (row,) = [row for row in collect(root, params).rows[1] if not row.model.floor]
    folder = root / "evaluate"
    read = {
        (fold, seed): pd.read_parquet(folder / f"{fold}-{BACKBONE}-lerenet-1-{seed}" / "counts.parquet")
        .query("protocol == 'groups' and kind == 'defect' and shots == 1")
        for fold in CLASSES for seed in range(3)
    }  # fmt: skip
    tables = [pd.concat([read[fold, seed] for fold in CLASSES]) for seed in range(3)]
    rng, drawn = np.random.default_rng(params.seed), {}
    for fold in sorted(CLASSES):
        for cls in sorted(CLASSES[fold]):
            total = read[fold, 0].query("cls == @cls")["query"].nunique()
            drawn[fold, cls] = rng.multinomial(total, np.full(total, 1 / total), size=draws)
    values = literal(tables, [{key: times[i] for key, times in drawn.items()} for i in range(draws)])
    ones = {key: np.ones(times.shape[1]) for key, times in drawn.items()}
    single = [float(literal([table], [ones])[0]) for table in tables]
    assert row.model.seeds == (0, 1, 2)
    assert row.mean.value == pytest.approx(np.mean(single))
    assert (row.spread.low, row.spread.high) == pytest.approx((min(single), max(single)))
    assert (row.mean.low, row.mean.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    text = results_text(root, params)
    assert f"seeds {min(single):.1f} to {max(single):.1f}" in text


def test_one_seed_has_the_interval_of_the_evaluation(built: Path) -> None:
    data = collect(built, PARAMS)
    loaded = data.loaded
    found = interval(loaded.counts_of("lerenet", 1), PARAMS.evaluation.draws, PARAMS.seed)
    (row,) = [row for row in data.rows[1] if row.model.id == "lerenet"]
    for metric in METRICS:
        score, (low, high) = row.scores[metric.name], metric.bounds
        assert (score.value, score.low, score.high) == pytest.approx(
            (found[metric.name], found[low], found[high])
        )
    (finding,) = [found for found in data.findings if found.shots == 1]
    paired = paired_bootstrap(
        loaded.counts_of("matching", 1), loaded.counts_of("lerenet", 1), PARAMS.evaluation.draws, PARAMS.seed
    )
    gain = finding.gain
    assert (gain.gain, gain.low, gain.high) == pytest.approx((paired.gain, paired.low, paired.high))


def test_a_seed_without_every_fold_counts_in_its_fold_alone(tmp_path: Path) -> None:
    root = make_artifacts(tmp_path / "artifacts", seeds=(0, 1), queries=3)
    shutil.rmtree(root / "evaluate" / f"fold2-{BACKBONE}-lerenet-1-1")
    (row,) = [row for row in collect(root, PARAMS).rows[1] if not row.model.floor]
    alone = json.loads((root / "evaluate" / f"fold2-{BACKBONE}-lerenet-1-0" / "summary.json").read_text())
    (score,) = [r["miou"] for r in alone if r["shots"] == 1 and r["protocol"] == "groups"]
    assert row.folds[2].value == pytest.approx(score)
    assert row.spread is None  # one seed alone has every fold


# -- the paper's tables -----------------------------------------------------------------------------

TABLES = {
    "recipes": {
        "lerenet": {"train": {"loss": "dice"}},
        "baseline": {"model": {"name": "baseline"}},
        "mpr": {"model": {"mpe": False, "edge": False}},
        "loss_bce": {"train": {"loss": "bce"}},
        "no_pretraining": {"pretrained": False},
    },
    "tables": {
        "summary": {"recipes": ["lerenet", "baseline"], "shots": [1, 5]},
        "table2": {"recipes": ["baseline", "lerenet"], "backbones": ["resnet50"], "shots": [1, 5]},
        "table3": {"recipes": ["baseline", "mpr", "lerenet"], "shots": [1, 5]},
        "table4": {"recipes": ["lerenet"], "backbones": ["resnet101"]},
        "table6": {"recipes": ["no_pretraining", "lerenet"]},
        "table7": {"recipes": ["loss_bce", "lerenet"]},
    },
    "evaluation": {"draws": 50},
    "image_size": 64,  # of the networks whose operations are counted
}
WITH_TABLES = Params.model_validate(TABLES)


@pytest.mark.parametrize(
    ("recipes", "expected"),
    [
        (("lerenet",), []),
        (("lerenet", "baseline"), [2]),
        (("lerenet", "no_pretraining", "loss_bce"), [6, 7]),
    ],
)
def test_a_table_shows_when_its_cells_are_there(
    tmp_path: Path, recipes: tuple[str, ...], expected: list[int]
) -> None:
    root = make_artifacts(tmp_path / "artifacts", folds=("fold1",), recipes=recipes, queries=3)
    data = collect(root, WITH_TABLES)
    assert [section.number for section in data.sections] == expected
    text = results(data)
    assert [f"## Table {number}:" in text for number in (2, 3, 4, 6, 7)] == [
        number in expected for number in (2, 3, 4, 6, 7)
    ]


def test_what_ships_has_sentences_and_the_others_a_table(tmp_path: Path) -> None:
    root = make_artifacts(tmp_path / "artifacts", recipes=("lerenet", "mpr"), queries=3)
    text = results_text(root, PARAMS)
    before, after = text.partition("Scores are points")[0], text.partition("| trained | shots |")[2]
    assert "- With 1 support image, lerenet " in before
    assert "mpr" not in before
    rows = [line for line in after.splitlines() if line.startswith("| mpr | ")]
    ours = [finding for finding in collect(root, PARAMS).findings if finding.model.id == "mpr"]
    assert len(rows) >= len(ours) > 0
    for finding in ours:
        wanted = f"| mpr | {finding.shots} | {finding.floor.label} | {finding.gain.gain:+.1f} ("
        assert any(row.startswith(wanted) for row in rows)


@pytest.fixture(scope="module")
def tabled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    """A project with the cells of Tables 2 and 3, and its settings."""
    recipes = ("lerenet", "baseline", "mpr", "pfenet")
    root = make_artifacts(tmp_path_factory.mktemp("tabled") / "artifacts", recipes=recipes, queries=3)
    added = {"recipes": {"pfenet": {"model": {"name": "pfenet"}}}}
    added["tables"] = {"table2": {"recipes": ["lerenet", "baseline", "pfenet"]}}
    params = Params.model_validate({**TABLES, **{key: TABLES[key] | value for key, value in added.items()}})
    build_report(root, params, root / "report")
    return root, params


def test_the_page_has_the_tables_that_are_there(tabled: tuple[Path, Params]) -> None:
    page = Page((tabled[0] / "report" / "report.html").read_text(encoding="utf-8"))
    assert [name for name in page.values("id") if re.fullmatch(r"table\d", name)] == ["table2", "table3"]
    assert len(page.values("id")) == len(set(page.values("id")))


def test_table_4_has_its_backbone_to_itself(tmp_path: Path) -> None:
    root = make_artifacts(tmp_path / "artifacts", folds=("fold1",), recipes=("lerenet",), queries=3)
    for path in [*root.glob(f"*/*{BACKBONE}*")]:
        path.rename(path.with_name(path.name.replace(BACKBONE, "resnet101")))
    (section,) = collect(root, WITH_TABLES).sections
    assert (section.number, list(section.rows)) == (4, [1])
    assert [row.method for row in section.rows[1]] == ["All foreground", "Prototype", "Matching", "LERENet"]


@pytest.fixture(scope="module")
def ablated(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Three recipes trained on 1 and on 5 shots."""
    root, recipes = tmp_path_factory.mktemp("ablated") / "artifacts", ("baseline", "mpr", "lerenet")
    return collect(make_artifacts(root, recipes=recipes, shots=(1, 5), queries=3), WITH_TABLES)


def test_a_table_holds_its_rows_differences_clean_queries_and_the_printed_numbers(ablated: Data) -> None:
    (section,) = [section for section in ablated.sections if section.number == 3]
    assert list(section.rows) == [1, 5]
    rows = section.rows[5]
    assert [row.method for row in rows] == [
        "All foreground", "Prototype", "Matching", "baseline", "MPR", "MPR+MPE*",
    ]  # fmt: skip
    assert [row.main.model.trained_shots for row in rows[3:]] == [5, 5, 5]
    mpr, reference = rows[4], rows[5]
    assert mpr.over_reference.gain == pytest.approx(mpr.main.mean.value - reference.main.mean.value)
    assert mpr.over_reference.low < mpr.over_reference.gain < mpr.over_reference.high
    same_features, floor = mpr.over_matching
    assert same_features is None  # not evaluated in these artifacts
    assert floor.gain == pytest.approx(mpr.main.mean.value - rows[2].main.mean.value)
    assert reference.over_reference is None
    assert mpr.clean.episodes == 3 * 4 * 3
    assert mpr.schedule.epochs_text == "8"
    assert mpr.schedule.kept_text == "4, 4, 4"
    assert [row.method for row in section.printed[5]] == [
        "MPR",
        "MPE",
        "MPE*",
        "MPR+MPE",
        "MPR+MPE*",
        "Baseline",
    ]


def test_the_main_table_leaves_ablations_to_their_tables(ablated: Data) -> None:
    rows = ablated.main[5]
    assert [row.model.id for row in rows if not row.model.floor] == ["lerenet-5shot", "baseline-5shot"]


def test_cells_of_other_episodes_are_left_out_and_named(tmp_path: Path) -> None:
    root = make_artifacts(tmp_path / "artifacts", queries=3)
    other = root / "evaluate" / f"fold1-{BACKBONE}-lerenet-1-0" / "about.json"
    other.write_text(other.read_text().replace("0123", "4567"))
    loaded = load(root, PARAMS)
    assert loaded.skipped == [other.parent.name]
    assert set(loaded.counts_of("lerenet", 1)["split"]) == {"fold0", "fold2"}
    assert other.parent.name in results_text(root, PARAMS)


def test_the_page_says_what_was_trained_shorter_than_the_paper(built: Path, page: Page) -> None:
    assert "8 epochs instead of 200" in " ".join(page.text)
    assert "8 epochs instead of 200" in results_text(built, PARAMS)


def test_figures_follow_their_rules(built: Path) -> None:
    loaded = load(built, PARAMS)
    drawn = {
        item.title: item for item in figures(loaded, loaded.model("lerenet"), [loaded.model("matching")])
    }
    assert list(drawn) == [
        "Semantic difference", "Distortion difference", "Successes", "Failures", "The usual case",
    ]  # fmt: skip
    alike = pd.concat([pd.read_parquet(path) for path in built.glob("floors/*/likeness.parquet")])
    counts = loaded.counts_of("lerenet", 1).drop_duplicates("query").merge(alike, on="episode")
    lowest = counts.loc[counts.groupby("cls")["cosine"].idxmin()].nsmallest(SHOWN, "cosine")
    assert [panel.caption for panel in drawn["Semantic difference"].panels] == [
        f"{row.cls}, episode {row.episode}, cosine {row.cosine:.2f}" for row in lowest.itertuples()
    ]
    failed = counts.loc[counts.groupby("cls")["iou"].idxmin()].sort_values("cls")
    assert [panel.caption for panel in drawn["Failures"].panels] == [
        f"{row.cls}, episode {row.episode}, lowest IoU" for row in failed.itertuples()
    ]
    ratios = [float(panel.caption.rpartition(" ")[2]) for panel in drawn["Distortion difference"].panels]
    assert ratios == sorted(ratios, reverse=True)
    assert len(ratios) == SHOWN
    assert all("Matching, lerenet" in panel.alt for item in drawn.values() for panel in item.panels)


def test_without_the_images_there_are_no_pictures(tmp_path: Path) -> None:
    root = make_artifacts(tmp_path / "artifacts", folds=("fold0",), queries=3)
    loaded = load(root, PARAMS)
    assert figures(loaded, loaded.model("lerenet"), [])
    shutil.rmtree(tmp_path / "data")
    assert figures(loaded, loaded.model("lerenet"), []) == []


def test_plots_for_dvc(built: Path) -> None:
    classes = pd.read_csv(built / "report" / "plots" / "classes.csv")
    assert set(classes["model"]) == {"lerenet", "matching"}
    assert (classes["low"] <= classes["iou"]).all()
    assert (classes["iou"] <= classes["high"]).all()
    curves = pd.read_csv(built / "report" / "plots" / "curves.csv")
    assert curves["cell"].nunique() == 3


def test_the_markdown_holds_the_same_numbers(built: Path) -> None:
    (built.parent / "params.yaml").write_text("evaluation: {draws: 200}\n")
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
    assert [(row.shots, row.scores["miou"], row.scores["fb_iou"]) for row in rows] == [
        (1, "38.33", "58.77"),
        (5, "41.89", "59.10"),
    ]
    assert [(row.method, row.gflops) for row in printed_cost()] == [("TGRNet", "83.69"), ("LERENet", "69.85")]


def test_table_2_has_its_costs_and_a_plot_of_accuracy_against_cost(
    tabled: tuple[Path, Params], page: Page, tmp_path: Path
) -> None:
    root, params = tabled
    data = collect(root, params)
    rows = data.costs
    costs = {cost.method: cost for cost in rows}
    assert {"LERENet", "Baseline", "PFENet"} < set(costs)
    direct = measure_cost(configure("pfenet"), "efficientnet_lite0", image_size=64)
    assert costs["PFENet"].enrolled == pytest.approx(direct.enrolled_gflops)
    assert costs["PFENet"].episode == pytest.approx(direct.episode_gflops)
    assert all("of 3 folds" not in cost.note for cost in costs.values())
    assert [cost.enrolled for cost in rows] == sorted(cost.enrolled for cost in rows)
    text = (root / "report" / "report.html").read_text()
    assert 'id="cost"' in text
    assert "mIoU against the operations of a query" in text
    cell = root / "evaluate" / f"fold1-{BACKBONE}-pfenet-1-0"
    cell.rename(tmp_path / "away")
    fewer = collect(root, params)
    (tmp_path / "away").rename(cell)
    noted = {cost.method: cost.note for cost in fewer.costs}
    assert noted["PFENet"].endswith("2 of 3 folds")
    plain = params.model_copy(update={"tables": {}})
    assert collect(root, plain).costs == []
    assert "cost" not in page.values("id")


# -- known classes ------------------------------------------------------------------------------------

GROUPS = {f"known{fold}": ["Al_Pit", "KSDD"] for fold in range(4)}


def test_known_classes_are_a_question_of_their_own(tmp_path: Path) -> None:
    recipes = ("lerenet", "mpr")
    root = make_artifacts(tmp_path / "artifacts", recipes=recipes, queries=3)
    alone = collect(root, WITH_TABLES).rows[1][0].mean
    other = make_artifacts(
        tmp_path / "other" / "artifacts",
        folds=tuple(GROUPS),
        recipes=recipes,
        queries=3,
        classes=GROUPS,
        lift=2.0,
    )
    for stage in ("floors", "evaluate", "train"):
        shutil.copytree(other / stage, root / stage, dirs_exist_ok=True)
    data = collect(root, WITH_TABLES)
    assert data.known is not None
    assert data.rows[1][0].mean == alone  # the novel ones' numbers are as they were
    (row,) = [row for row in data.known.rows[1] if row.model.id == "lerenet"]
    cells = [root / "evaluate" / f"{fold}-{BACKBONE}-lerenet-1-0" / "counts.parquet" for fold in GROUPS]
    counts = pd.concat([pd.read_parquet(path) for path in cells], ignore_index=True)
    own = counts[(counts["kind"] == "defect") & (counts["protocol"] == "groups") & (counts["shots"] == 1)]
    sums = own.groupby("cls")[["tp", "fp", "fn"]].sum()  # a class's images of all folds together
    expected = float((100 * sums["tp"] / sums.sum(axis=1)).mean())
    assert row.mean is not None
    assert row.mean.value == pytest.approx(expected)
    assert row.mean.low is not None
    assert row.mean.high is not None
    assert row.mean.low < expected < row.mean.high
    assert [section.number for section in data.known.sections] == [3]
    assert all(finding.gain.folds == finding.gain.of == 1 for finding in data.known.findings)
    text = results(data)
    assert "## 1-shot, known classes" in text
    assert "| model | known | mean mIoU |" in text
    assert "## Table 3: what MPR, MPE and the edge information bring, 1-shot, known classes" in text
    build_report(root, WITH_TABLES, tmp_path / "report")
    page = Page((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))
    assert row.mean.text in page.text
    assert {"known", "known-1", "known-table3-1"} <= set(page.values("id"))
    assert len(page.values("id")) == len(set(page.values("id")))
    numbers = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert numbers["known.lerenet.1shot.miou"] == pytest.approx(row.mean.value, abs=1e-5)


# -- the paper's protocol as it is --------------------------------------------------------------------


def test_of_watched_trainings_the_best_epoch_on_the_test_fold_stands_beside_the_printed_numbers(
    tmp_path: Path,
) -> None:
    root = make_artifacts(tmp_path / "artifacts", seeds=(0, 1), queries=3)
    assert collect(root, PARAMS).best_epochs == []
    watched = {
        (fold, seed): [10.0 + place, 30.0 + 10 * seed, 20.0]
        for place, fold in enumerate(CLASSES)
        for seed in (0, 1)
    }
    for (fold, seed), scores in watched.items():
        path = root / "train" / f"{fold}-{BACKBONE}-lerenet-1-{seed}" / "curve.csv"
        curve = pd.read_csv(path)
        curve.loc[[1, 3, 5], "miou_paper"] = scores
        curve.loc[[1, 3, 5], "fb_iou_paper"] = [60.0, 50.0, 55.0]  # best at another epoch
        curve.loc[[1, 3, 5], "miou_groups"] = scores
        curve.to_csv(path, index=False)
    (row,) = collect(root, PARAMS).best_epochs
    assert row.folds == [(35.0, 4.0)] * 3
    assert row.scores == {"miou": 35.0, "fb_iou": 60.0}
    text = results_text(root, PARAMS)
    assert "| 35.0 (epoch 4) | 35.0 (epoch 4) | 35.0 (epoch 4) | 35.0 | 60.0 |" in text
    assert len([line for line in text.splitlines() if line.startswith("| *as printed, Table ")]) == len(
        printed()
    )
    build_report(root, PARAMS, tmp_path / "report")
    page = Page((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))
    assert "as-printed" in page.values("id")
    assert "mIoU on the test episodes" in " ".join(page.text)
