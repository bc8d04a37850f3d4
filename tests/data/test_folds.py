"""Splits are class-disjoint; episodes are frozen, group-disjoint and cover every test image."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerenet.data.folds import (
    asked,
    build_folds,
    digest_of,
    load_folds,
    make_episodes,
    make_splits,
    trained_on,
)
from lerenet.data.sampler import EpisodeSampler
from lerenet.errors import DataError
from lerenet.params import EpisodeSettings, Params


def make_catalog(classes: int = 12, groups: int = 4, per_group: int = 2, clean: int = 2) -> pd.DataFrame:
    rows = []
    for c in range(classes):
        name = f"C{c:02d}"
        for g in range(groups):
            rows += [
                (f"{name}/Images/{g}_{i}.jpg", name, c % 3, "defect", f"{name}/g{g}")
                for i in range(per_group)
            ]
        rows += [(f"{name}/Nd/{i}.jpg", name, c % 3, "clean", f"{name}/n{i}") for i in range(clean)]
    frame = pd.DataFrame(rows, columns=["image", "cls", "fold", "kind", "group"])
    frame["sha256"] = frame["image"]
    frame["mask_sha256"] = frame["image"]
    return frame


SETTINGS = EpisodeSettings(shots=(1, 5), per_query=2, validation_classes=2)


def test_splits_are_class_disjoint_and_the_shipping_split_tests_nothing() -> None:
    splits = make_splits(make_catalog(), SETTINGS, 0)
    for name, split in splits.items():
        if name.startswith("known"):
            continue
        parts = [set(split["base"]), set(split["validation"]), set(split["novel"])]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 12
        assert [len(p) for p in parts] == ([10, 2, 0] if name == "all" else [6, 2, 4])


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 5), st.integers(1, 4), st.integers(0, 2), st.integers(0, 10))
def test_every_episode_keeps_groups_apart_and_every_test_image_is_a_query(
    groups: int, per_group: int, clean: int, seed: int
) -> None:
    shots = (1,) if (groups - 1) * per_group < 5 else (1, 5)
    chosen = EpisodeSettings(shots=shots, per_query=2, validation_classes=2)
    catalog = make_catalog(classes=6, groups=groups, per_group=per_group, clean=clean)
    if groups * per_group <= max(shots):
        return
    splits = make_splits(catalog, chosen, seed)
    episodes = make_episodes(catalog, splits, chosen, seed)
    cls = dict(zip(catalog["image"], catalog["cls"], strict=True))
    for row in episodes.itertuples():
        assert row.query not in row.support
        assert len(set(row.support)) == len(row.support) == row.shots
        assert {cls[name] for name in row.support} == {row.cls} == {cls[row.query]}
        if row.protocol == "groups":
            assert row.query_group not in row.support_groups
    tested = episodes[
        (episodes["role"] == "test") & (episodes["protocol"] == "groups") & (episodes["kind"] == "defect")
    ]
    tested = tested[~tested["split"].str.startswith("known")]
    times = tested.groupby(["shots", "query"]).size()
    assert (times == 2).all()
    assert set(tested["query"]) == set(catalog[catalog["kind"] == "defect"]["image"])


def test_known_classes_are_asked_about_groups_that_are_left_out_each_image_once() -> None:
    catalog = make_catalog(classes=6, groups=9)
    splits = make_splits(catalog, SETTINGS, 0)
    episodes = make_episodes(catalog, splits, SETTINGS, 0)
    group = dict(zip(catalog["image"], catalog["group"], strict=True))
    asked_about = []
    for name in ("known0", "known1", "known2", "known3"):
        split, own = splits[name], episodes[episodes["split"] == name]
        assert asked(split) == split["base"] == sorted(catalog["cls"].unique())
        learnt = set(trained_on(catalog, split)["group"])
        assert not learnt & set(own["query_group"])
        for row in own.itertuples():
            assert {group[image] for image in row.support} <= learnt
            assert len(set(row.support)) == row.shots
        sampler = EpisodeSampler(trained_on(catalog, split), split["base"], 1, 0, 4, 0.2, 0)
        assert not set(sampler.images) & set(own["query"])
        asked_about += [(row.shots, row.query) for row in own.itertuples()]
    assert len(asked_about) == len(set(asked_about))
    supported = episodes[episodes["split"].str.startswith("known")]
    assert {image for shots, image in asked_about if shots == 1} == set(catalog["image"])
    assert set(supported["role"]) == {"test"}
    for name in ("fold0", "all"):
        assert len(trained_on(catalog, splits[name])) == len(catalog)


def test_the_digest_is_stable_and_sees_a_changed_file_or_episode() -> None:
    catalog, few = make_catalog(classes=6), SETTINGS.model_copy(update={"shots": (1,), "per_query": 1})
    episodes, again, other = (
        make_episodes(catalog, make_splits(catalog, few, seed), few, seed) for seed in (0, 0, 1)
    )
    assert digest_of(episodes, catalog) == digest_of(again, catalog)
    assert digest_of(other, catalog) != digest_of(episodes, catalog)
    for column in ("sha256", "mask_sha256"):
        touched = catalog.copy()
        touched.loc[0, column] = "other"
        assert digest_of(episodes, touched) != digest_of(episodes, catalog), column


def test_a_new_class_leaves_the_supports_of_the_others_alone() -> None:
    small, large = make_catalog(6), make_catalog(9)
    few, many = (make_episodes(c, make_splits(c, SETTINGS, 0), SETTINGS, 0) for c in (small, large))
    key = ["split", "protocol", "kind", "shots", "query"]
    both = few[few["role"] == "test"].merge(many[many["role"] == "test"], on=key, suffixes=("", "_new"))
    same = [tuple(a) for a in both["support"]]
    assert len(both) > 0
    assert set(same) >= {tuple(s) for s in both["support_new"]}


def test_too_few_groups_or_classes_is_said_with_the_class() -> None:
    catalog = make_catalog(groups=1, per_group=8)
    with pytest.raises(DataError, match=r"C\d\d: 0 images can support .*outside its group"):
        make_episodes(catalog, make_splits(catalog, SETTINGS, 0), SETTINGS, 0)
    with pytest.raises(DataError, match="2 base classes, 2 to hold out"):
        make_splits(make_catalog(3), SETTINGS, 0)


def test_what_is_written_is_read_back(tmp_path) -> None:  # type: ignore[no-untyped-def]
    catalog = make_catalog(classes=6)
    written = build_folds(catalog, Params(), tmp_path)
    folds, episodes = load_folds(tmp_path)
    assert folds == written
    assert digest_of(episodes, catalog) == folds["digest"]
    assert len(folds["digest"]) == 32


def make_sampler(**changes: object) -> EpisodeSampler:
    given = {"catalog": make_catalog(), "classes": ["C00", "C03"], "shots": 2, "views": 3, "batch": 4}
    return EpisodeSampler(**{**given, "clean_share": 0.25, "seed": 0, **changes})  # type: ignore[arg-type]


def test_a_training_batch_depends_on_seed_epoch_and_step_alone() -> None:
    one, two = make_sampler(), make_sampler()
    two.batch_at(0, 0)
    assert one.batch_at(3, 1) == two.batch_at(3, 1)
    assert one.batch_at(3, 1) != one.batch_at(4, 1)
    assert one.batch_at(3, 1) != make_sampler(seed=1).batch_at(3, 1)


def test_an_epoch_is_one_pass_over_the_base_images_and_supports_come_from_other_groups() -> None:
    sampler = make_sampler(clean_share=0.0)
    group = dict(zip(sampler.catalog["image"], sampler.catalog["group"], strict=True))
    episodes = [e for step in range(sampler.steps) for e in sampler.batch_at(0, step)]
    assert sorted(e.query[0] for e in episodes) == sorted(sampler.images[:16])
    for episode in episodes:
        assert all(group[name] != group[episode.query[0]] for name, _ in episode.support)
        assert all(0 <= view <= 3 for _, view in (episode.query, *episode.support))
        assert all(name.startswith(episode.cls) for name, _ in episode.support)


def test_a_pool_holds_so_many_episodes_of_each_query() -> None:
    sampler = make_sampler(per_query=3, clean_share=0.0)
    drawn = [e for epoch in range(60) for step in range(sampler.steps) for e in sampler.batch_at(epoch, step)]
    by_query: dict[str, set[object]] = {}
    for episode in drawn:
        by_query.setdefault(episode.query[0], set()).add(episode)
    assert len(by_query) == 16
    assert max(map(len, by_query.values())) == 3
    assert len(set(drawn)) <= 3 * 16
    assert drawn[:8] == [
        e for step in range(2) for e in make_sampler(per_query=3, clean_share=0.0).batch_at(0, step)
    ]


def test_clean_queries_come_in_their_share() -> None:
    episodes = [e for step in range(50) for e in make_sampler().batch_at(step, 0)]
    share = sum("/Nd/" in e.query[0] for e in episodes) / len(episodes)
    assert 0.15 < share < 0.35


def test_a_fold_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="no image of C00, C03 may be trained on"):
        make_sampler(catalog=make_catalog().iloc[:0])
