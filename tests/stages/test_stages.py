"""Every stage in order on a tiny data set, in one process: what each promises to the next."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from lerenet import layout
from lerenet.cells import Cell
from lerenet.errors import ParamsError, TrainingError
from lerenet.evaluation.metrics import miou, scores
from lerenet.files import TEMPORARY, read_json
from lerenet.models.backbones.factory import create_backbone
from tests.helpers.pipeline import drawn_project, write_params

CELL = "fold0-efficientnet_lite0-lerenet-1-0"
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """A project in which fold 0 was run from the catalogue to its evaluation."""
    from lerenet.stages import evaluate, features, pretrain, train

    folder = drawn_project(
        tmp_path_factory.mktemp("stages"), mlflow_template, train={"epochs": 2, "batch": 4}
    )
    with contextlib.chdir(folder):
        pretrain.run("fold0-efficientnet_lite0")
        features.run("fold0-efficientnet_lite0")
        train.run(CELL)
        evaluate.run_floors("fold0-efficientnet_lite0")
        evaluate.run(CELL)
    return folder


def test_every_stage_leaves_its_run_and_outputs(ran: Path) -> None:
    for folder in (
        "catalog",
        "folds",
        "pretrain/fold0-efficientnet_lite0",
        f"train/{CELL}",
        f"evaluate/{CELL}",
    ):
        record = read_json(ran / layout.ARTIFACTS / folder / "run.json")
        assert record["tracked"], folder
        assert record["mlflow_run_id"], folder
    assert (ran / layout.TRAIN / CELL / "model" / "weights.safetensors").stat().st_size > 1000
    assert not list(ran.rglob(".lerenet-tmp-*"))
    assert not list((ran / layout.CHECKPOINTS / "train" / CELL).glob("step*.pt"))


def test_pretraining_never_sees_novel_or_validation_classes(ran: Path) -> None:
    split = read_json(ran / layout.FOLDS / "folds.json")["splits"]["fold0"]
    config = read_json(ran / layout.TRAIN / CELL / "model" / "config.json")
    assert not set(config["classes_seen"]) & set(split["novel"])
    assert not set(config["classes_seen"]) & set(split["validation"])


def test_counts_cover_the_same_episodes_for_every_model(ran: Path) -> None:
    floors = pd.read_parquet(ran / layout.FLOORS / "fold0-efficientnet_lite0" / "counts.parquet")
    trained = pd.read_parquet(ran / layout.EVALUATE / CELL / "counts.parquet")
    assert set(floors["model"]) == {
        "all_foreground",
        "all_background",
        "prototype",
        "matching",
        "matching_lerenet",
    }
    for _, part in floors.groupby("model"):
        assert part["episode"].tolist() == trained["episode"].tolist()
    pixels = trained[["tp", "fp", "fn", "tn"]].sum(axis=1)
    assert (pixels == 64 * 64).all()
    everything = floors[floors["model"] == "all_foreground"]
    assert (everything[["fn", "tn"]] == 0).all().all()


def test_the_summary_has_intervals_around_the_scores(ran: Path) -> None:
    for row in read_json(ran / layout.EVALUATE / CELL / "summary.json"):
        assert row["miou_low"] <= row["miou"] <= row["miou_high"]
        assert row["miou"] == pytest.approx(sum(row["classes"].values()) / len(row["classes"]))
        assert (row["clean"] is None) == (row["protocol"] == "paper")


def test_the_saved_model_gives_the_scores_that_were_written(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerenet.evaluation.protocol import score_heads
    from lerenet.features.store import FeatureStore
    from lerenet.models.serialization import load_network
    from lerenet.stages.common import Inputs

    monkeypatch.chdir(ran)
    inputs = Inputs.load()
    network = load_network(layout.TRAIN / CELL / "model").network
    store = FeatureStore(network.backbone, inputs.catalog, inputs.params, layout.DATA)
    store.ensure(inputs.split("fold0")["novel"])
    subject, episodes = {"lerenet": (network.head, store)}, inputs.chosen("fold0", "test")
    counts = score_heads(subject, episodes, inputs.params.precision)
    written = pd.read_parquet(layout.EVALUATE / CELL / "counts.parquet")
    assert (counts[["tp", "fp", "fn", "tn"]] == written[["tp", "fp", "fn", "tn"]]).all().all()
    monkeypatch.setattr("lerenet.device.has_bf16", lambda kind: True)  # emulated where it has to be
    single, half = (miou(score_heads(subject, episodes, precision)) for precision in ("fp32", "bf16"))
    assert half == pytest.approx(single, abs=0.3)  # points


def test_a_champion_of_another_image_size_is_scored_at_its_own(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerenet.evaluation.protocol import score_version
    from lerenet.stages.common import Inputs

    monkeypatch.chdir(ran)
    shutil.copytree(layout.TRAIN / CELL / "model", tmp_path / "folds" / "fold0")
    params = Inputs.load().params.model_copy(update={"image_size": 96})
    again = score_version(tmp_path, layout.FOLDS / "episodes.parquet", layout.CATALOG, layout.DATA, params)
    written = pd.read_parquet(layout.EVALUATE / CELL / "counts.parquet")
    assert again["episode"].tolist() == written["episode"].tolist()
    assert (again[["tp", "fp", "fn", "tn"]] == written[["tp", "fp", "fn", "tn"]]).all().all()


def trained(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, stop_after: int | None = None
) -> dict[str, torch.Tensor]:
    """Train fold 0's cell under checkpoints ``name``; ``stop_after`` steps the process dies."""
    from lerenet.progress import progress
    from lerenet.stages import train as stage
    from lerenet.stages.common import Inputs

    monkeypatch.chdir(project)
    inputs, cell = Inputs.load(), Cell.parse(CELL)
    base = inputs.split("fold0")["base"]
    trainer = stage._trainer(inputs, cell, base, True, None, project / layout.CHECKPOINTS / name)
    monkeypatch.setattr("lerenet.training.trainer.CHECKPOINT_SECONDS", 0.0)
    if stop_after is not None:
        real, done = trainer._step, 0

        def dies(epoch: int, step: int) -> float:
            nonlocal done
            done += 1
            if done > stop_after:
                raise KeyboardInterrupt
            return real(epoch, step)

        monkeypatch.setattr(trainer, "_step", dies)
    with progress("train", 1) as trainer.tick:
        trainer.run()
    moments = {
        f"{number} {key}": value.clone()
        for number, state in trainer.optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    assert moments  # of the last step, whichever epoch's weights were kept
    return moments | {key: value.clone() for key, value in trainer.head.state_dict().items()}


@pytest.mark.parametrize("steps", [1, 4, 6])  # of 4 an epoch
def test_a_resumed_training_equals_the_undisturbed_one_bit_for_bit(
    ran: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    whole = trained(ran, monkeypatch, f"whole{steps}")
    with pytest.raises(KeyboardInterrupt):
        trained(ran, monkeypatch, f"cut{steps}", stop_after=steps)
    resumed = trained(ran, monkeypatch, f"cut{steps}")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_nan_stops_the_training_and_names_the_batch(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lerenet.training.trainer import Trainer

    monkeypatch.setattr(
        Trainer, "forward", lambda self, episodes: torch.tensor(float("nan"), requires_grad=True)
    )
    with pytest.raises(TrainingError, match=r"nan for 3 steps in a row .*Images/"):
        trained(ran, monkeypatch, "nan")
    assert len((ran / layout.CHECKPOINTS / "nan" / "bad_steps.jsonl").read_text().splitlines()) == 3


def test_an_unknown_recipe_or_key_is_refused(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lerenet.stages import train as stage

    monkeypatch.chdir(ran)
    with pytest.raises(ParamsError, match="no recipe 'nope'"):
        stage.run("fold0-efficientnet_lite0-nope-1-0")
    with pytest.raises(ParamsError, match="no cell of the grid"):
        stage.run("fold0")


def test_the_cache_is_not_made_twice_and_sees_a_changed_mask(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerenet.features.store import FeatureStore
    from lerenet.stages.common import Inputs
    from lerenet.stages.recipes import cell_backbone

    monkeypatch.chdir(ran)
    inputs = Inputs.load()
    store = FeatureStore(
        cell_backbone(inputs.params, Cell.parse(CELL)), inputs.catalog, inputs.params, layout.DATA
    )
    cls = inputs.split("fold0")["base"][0]
    monkeypatch.setattr(store, "_batches", lambda *_: pytest.fail("computed again"))
    store.ensure([cls], augmented=True)
    monkeypatch.undo()
    monkeypatch.chdir(ran)
    for masked in (False, True):  # a progress bar that ends where the work ends
        ticks: list[int] = []
        store.tick = ticks.append
        store.ensure([cls], augmented=True, masked=masked)
        assert sum(ticks) == store.size([cls], augmented=True, masked=masked)
    touched = inputs.catalog.copy()
    touched.loc[touched["cls"] == cls, "mask_sha256"] = "changed"
    other = FeatureStore(store.backbone, touched, inputs.params, layout.DATA)
    assert other.unit(cls, False) != store.unit(cls, False)


def test_what_is_cached_in_bfloat16_is_apart(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lerenet.features.store import FeatureStore
    from lerenet.stages.common import Inputs
    from lerenet.stages.recipes import cell_backbone

    monkeypatch.chdir(ran)
    inputs = Inputs.load()
    backbone, cls = cell_backbone(inputs.params, Cell.parse(CELL)), inputs.split("fold0")["base"][0]
    units = {}
    for precision, has in (("fp32", False), ("bf16", False), ("bf16", True)):
        monkeypatch.setattr("lerenet.device.has_bf16", lambda kind, has=has: has)
        params = inputs.params.model_copy(update={"precision": precision})
        units[precision, has] = FeatureStore(backbone, inputs.catalog, params, layout.DATA).unit(cls, False)
    assert units["fp32", False] == units["bf16", False] != units["bf16", True]


def test_what_a_dilated_backbone_gave_is_cached_apart(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lerenet.features.store import FeatureStore
    from lerenet.stages.common import Inputs
    from lerenet.stages.recipes import cell_backbone

    monkeypatch.chdir(ran)
    inputs = Inputs.load()
    plain, cls = cell_backbone(inputs.params, Cell.parse(CELL)), inputs.split("fold0")["base"][0]
    dilated = create_backbone(plain.name, "random", plain.levels, plain.turns, 8).eval()
    dilated.load_state_dict(plain.state_dict())
    stores = [FeatureStore(one, inputs.catalog, inputs.params, layout.DATA) for one in (plain, dilated)]
    assert stores[0].weights == stores[1].weights
    for views in (False, True):
        assert stores[0].unit(cls, views) != stores[1].unit(cls, views)


def test_a_backbone_in_training_is_validated_on_the_pictures_of_the_cache(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerenet.features.live import LiveSource
    from lerenet.features.store import FeatureStore
    from lerenet.stages.common import Inputs
    from lerenet.stages.recipes import cell_backbone

    monkeypatch.chdir(ran)
    inputs = Inputs.load()
    cls = inputs.split("fold0")["novel"][0]
    rows = inputs.catalog[inputs.catalog["cls"] == cls]
    store = FeatureStore(
        cell_backbone(inputs.params, Cell.parse(CELL)), inputs.catalog, inputs.params, layout.DATA
    )
    store.ensure([cls])
    live = LiveSource(layout.DATA, rows, inputs.params)
    shots = [(str(name), 0) for name in rows["image"]][::-1]
    assert torch.equal(live.pictures(shots), store.pictures(shots))
    assert torch.equal(live.masks(shots), store.masks(shots))


def test_a_backbone_in_training_describes_the_classes_that_are_asked_for(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerenet.features.live import LiveSource
    from lerenet.stages.common import Inputs
    from lerenet.stages.recipes import cell_backbone

    monkeypatch.chdir(ran)
    inputs = Inputs.load()
    one, other = inputs.split("fold0")["novel"][:2]
    rows = inputs.catalog[inputs.catalog["cls"].isin([one, other])]
    backbone = cell_backbone(inputs.params, Cell.parse(CELL))
    live, whole = (LiveSource(layout.DATA, rows, inputs.params) for _ in range(2))
    live.refresh(backbone, masked=True, classes={other})
    whole.refresh(backbone, masked=True)
    shots = [(str(name), 0) for name in rows.loc[rows["cls"] == other, "image"]]
    for masked in (False, True):
        both = zip(
            *(source.features(shots, backbone.levels, masked) for source in (live, whole)), strict=True
        )
        for some, every in both:
            torch.testing.assert_close(some, every)
    with pytest.raises(KeyError):
        live.features([(str(rows.loc[rows["cls"] == one, "image"].iloc[0]), 0)], backbone.levels)


def test_filling_the_cache_leaves_the_file_of_a_living_writer(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerenet.features.store import FeatureStore
    from lerenet.stages.common import Inputs
    from lerenet.stages.recipes import cell_backbone

    monkeypatch.chdir(ran)
    inputs = Inputs.load()
    backbone = cell_backbone(inputs.params, Cell.parse(CELL))
    store = FeatureStore(backbone, inputs.catalog, inputs.params, layout.DATA, tmp_path)
    cls = inputs.split("fold0")["base"][0]
    folder = store.unit(cls, augmented=False)
    folder.mkdir()
    living, dead = (folder / f"{TEMPORARY}{pid}-masks.npy" for pid in (1, 999999999))
    living.touch()
    dead.touch()
    store.ensure([cls])
    assert living.exists()
    assert not dead.exists()


@pytest.mark.parametrize("harm", ["cut", "zeroed", "its digest is gone"])
def test_a_damaged_array_of_the_cache_is_made_anew(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    from lerenet.features.store import FeatureStore
    from lerenet.stages.common import Inputs
    from lerenet.stages.recipes import cell_backbone

    monkeypatch.chdir(ran)
    inputs = Inputs.load()
    backbone = cell_backbone(inputs.params, Cell.parse(CELL))
    cls = inputs.split("fold0")["base"][0]

    def filled() -> FeatureStore:
        store = FeatureStore(backbone, inputs.catalog, inputs.params, layout.DATA, tmp_path)
        store.ensure([cls])
        return store

    store = filled()
    path = store.unit(cls, augmented=False) / "level2.npy"
    whole, other = path.read_bytes(), path.with_name("masks.npy").stat().st_mtime_ns
    if harm == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif harm == "zeroed":
        path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    else:
        path.with_suffix(".sha256").unlink()
    views = [(str(name), 0) for name in inputs.catalog.loc[inputs.catalog["cls"] == cls, "image"]]
    assert torch.isfinite(filled().features(views, (2,))[0]).all()
    assert path.read_bytes() == whole
    assert path.with_name("masks.npy").stat().st_mtime_ns == other  # only what was damaged


def test_a_saved_model_names_the_levels_and_turns_that_it_was_trained_with(ran: Path) -> None:
    config = read_json(ran / layout.TRAIN / CELL / "model" / "config.json")
    assert config["model"]["levels"] == [2, 3]  # of the project's 1 to 3
    assert config["model"]["turns"] == 4


def test_of_known_classes_only_other_groups_are_trained_on_and_nothing_is_chosen(
    ran: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from lerenet.data.sampler import EpisodeSampler
    from lerenet.stages import evaluate, pretrain, train
    from lerenet.stages.common import Inputs
    from lerenet.training import pretrain as pretraining

    folder = shutil.copytree(ran, tmp_path / "known")
    monkeypatch.chdir(folder)
    inputs = Inputs.load()
    split = next(
        name
        for name in ("known0", "known1", "known2", "known3")
        if len(inputs.chosen(name, "test", kind="defect", shots=1))
    )
    asked_about = set(inputs.chosen(split, "test")["query_group"])
    seen: list[set[str]] = []
    samples, batch_at = pretraining._samples, EpisodeSampler.batch_at

    def watched(data: Path, rows: pd.DataFrame, *words: object) -> object:
        seen.append(set(rows["group"]))
        return samples(data, rows, *words)  # type: ignore[arg-type]

    def drawn(sampler: EpisodeSampler, epoch: int, step: int) -> object:
        episodes = batch_at(sampler, epoch, step)
        group = dict(zip(inputs.catalog["image"], inputs.catalog["group"], strict=True))
        seen.append({group[name] for one in episodes for name, _ in (one.query, *one.support)})
        return episodes

    monkeypatch.setattr(pretraining, "_samples", watched)
    monkeypatch.setattr(EpisodeSampler, "batch_at", drawn)
    cell = f"{split}-efficientnet_lite0-lerenet-1-0"
    pretrain.run(f"{split}-efficientnet_lite0")
    train.run(cell)
    evaluate.run_floors(f"{split}-efficientnet_lite0")
    evaluate.run(cell)
    assert len(seen) > 1
    assert not set().union(*seen) & asked_about
    made = read_json(layout.PRETRAIN / f"{split}-efficientnet_lite0" / "metrics.json")
    assert (made["chosen_epoch"], made["miou_validation"]) == (1, None)
    assert read_json(layout.TRAIN / cell / "metrics.json")["best_epoch"] == 2
    counts = pd.read_parquet(layout.EVALUATE / cell / "counts.parquet")
    assert set(counts["query_group"]) == asked_about


def test_a_watched_training_is_the_same_and_its_curve_has_the_test_scores(
    ran: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from lerenet.stages import train

    folder = shutil.copytree(ran, tmp_path / "watched")
    monkeypatch.chdir(folder)
    before = read_json(layout.TRAIN / CELL / "metrics.json")
    write_params(folder, train={"epochs": 2, "batch": 4, "watch": 2})
    train.run(CELL)
    after = read_json(layout.TRAIN / CELL / "metrics.json")
    assert after["weights_sha256"] == before["weights_sha256"]
    curve = pd.read_csv(layout.TRAIN / CELL / "curve.csv").set_index("epoch")
    assert curve["miou_paper"].notna().tolist() == [True, False, True]
    counts = pd.read_parquet(layout.EVALUATE / CELL / "counts.parquet")
    own = counts[(counts["protocol"] == "paper") & (counts["shots"] == 1)]
    found = scores(own)
    if before["best_epoch"] in (0, 2):
        for name, value in found.items():
            assert curve.loc[before["best_epoch"], f"{name}_paper"] == pytest.approx(value, abs=0.5)
    assert found["miou"] == pytest.approx(miou(own))


def test_a_defect_free_companion_is_never_of_a_group_that_is_left_out(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerenet.data.folds import apart
    from lerenet.features.live import LiveSource
    from lerenet.features.store import FeatureStore
    from lerenet.stages.common import Inputs
    from lerenet.stages.recipes import cell_backbone

    monkeypatch.chdir(ran)
    inputs = Inputs.load()
    backbone = cell_backbone(inputs.params, Cell.parse(CELL))
    clean = inputs.catalog[inputs.catalog["kind"] == "clean"]
    split = next(s for s in ("known0", "known1", "known2", "known3") if apart(clean, inputs.split(s)).any())
    known = inputs.trained_on(split)
    free = FeatureStore(backbone, inputs.catalog, inputs.params, layout.DATA)
    bound = FeatureStore(backbone, inputs.catalog, inputs.params, layout.DATA, normals=known)
    live = LiveSource(layout.DATA, inputs.catalog, inputs.params, known)
    defects = inputs.catalog[inputs.catalog["kind"] == "defect"]["image"]
    beside = {
        source: {source.normal((name, 0)) for name in defects} - {None} for source in (free, bound, live)
    }
    left_out = {(name, 0) for name in clean.loc[apart(clean, inputs.split(split)), "image"]}
    assert beside[free] & left_out
    assert beside[bound] == beside[live]
    assert not beside[bound] & left_out
