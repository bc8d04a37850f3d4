"""The interval of a score: against a plain loop, against SciPy, and what it must not accept."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerenet.errors import PromotionError
from lerenet.evaluation.metrics import mean_of_both, miou, summed
from lerenet.evaluation.resampling import chance_of_gain, interval, paired_bootstrap
from tests.helpers.counts import make_counts


def test_point_scores_are_those_of_the_metrics() -> None:
    counts = make_counts()
    found = interval(counts, draws=50)
    folds = [part for _, part in counts.groupby("split")]
    assert found["miou"] == pytest.approx(np.mean([miou(part) for part in folds]))
    assert found["fb_iou"] == pytest.approx(np.mean([mean_of_both(summed(part)) for part in folds]))
    assert found["miou_low"] < found["miou"] < found["miou_high"]
    assert found["fb_iou_low"] < found["fb_iou"] < found["fb_iou_high"]


def naive(counts: pd.DataFrame, draws: int, seed: int) -> list[float]:
    """The same resampling and score, as plain loops over draws, folds, classes and query images."""
    rng = np.random.default_rng(seed)
    pixels: dict[str, dict[str, dict[str, tuple[int, int]]]] = {}
    for row in counts.itertuples():  # one episode a query image
        classes = pixels.setdefault(row.split, {})
        classes.setdefault(row.cls, {})[row.query] = (row.tp, row.tp + row.fp + row.fn)
    values = []
    for _ in range(draws):
        folds = []
        for classes in pixels.values():
            ious = []
            for queries in classes.values():
                drawn = [queries[name] for name in rng.choice(list(queries), size=len(queries))]
                ious.append(100 * sum(hit for hit, _ in drawn) / sum(union for _, union in drawn))
            folds.append(sum(ious) / len(ious))
        values.append(sum(folds) / len(folds))
    return values


def test_interval_agrees_with_a_plain_loop() -> None:
    counts = make_counts(queries=4, per_query=1)
    slow = np.percentile(naive(counts, 4000, 1), [2.5, 97.5])
    fast = interval(counts, draws=4000)
    width = slow[1] - slow[0]
    assert fast["miou_low"] == pytest.approx(slow[0], abs=0.05 * width)
    assert fast["miou_high"] == pytest.approx(slow[1], abs=0.05 * width)


def test_one_class_agrees_with_scipy() -> None:
    from scipy import stats

    counts = make_counts(queries=40, per_query=1).query("cls == 'A0'")
    columns = [counts[name].to_numpy() for name in ("tp", "fp", "fn")]

    def iou(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int = -1) -> np.ndarray:
        return 100 * tp.sum(axis) / (tp.sum(axis) + fp.sum(axis) + fn.sum(axis))

    theirs = stats.bootstrap(
        columns, iou, paired=True, vectorized=True, n_resamples=9999, method="percentile", rng=3
    ).confidence_interval
    ours = interval(counts, draws=9999)
    width = theirs.high - theirs.low
    assert ours["miou_low"] == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours["miou_high"] == pytest.approx(theirs.high, abs=0.05 * width)


def test_pairing_narrows_the_interval_of_a_gain() -> None:
    champion = make_counts(seed=1)
    better = champion.assign(tp=champion["tp"] + 5, fn=champion["fn"] - 5)
    gain = paired_bootstrap(champion, better, draws=2000)
    alone = interval(champion, draws=2000)
    assert gain.low > 0
    assert gain.high - gain.low < (alone["miou_high"] - alone["miou_low"]) / 2
    assert gain.gain == pytest.approx(gain.challenger - gain.champion)
    assert set(gain.class_gain) == {"A0", "B0", "A1", "B1", "A2", "B2"}
    assert np.mean(list(gain.class_gain.values())) == pytest.approx(gain.gain)
    assert gain.episodes == len(champion)
    assert gain.queries == champion["query"].nunique()


def test_the_same_seed_gives_the_same_interval() -> None:
    champion, challenger = make_counts(queries=60), make_counts(seed=5, queries=60)
    first = paired_bootstrap(champion, challenger)
    assert first == paired_bootstrap(champion, challenger)
    assert first != paired_bootstrap(champion, challenger, seed=1)


def test_a_query_image_is_resampled_whole() -> None:
    """Ten copies of each episode of a query add no information: the interval stays."""
    counts = make_counts(per_query=1)
    copies = pd.concat([counts] * 10, ignore_index=True).assign(episode=range(10 * len(counts)))
    once, often = interval(counts, draws=500), interval(copies, draws=500)
    assert often == pytest.approx(once)


def test_clean_rows_do_not_count() -> None:
    counts = make_counts()
    clean = counts.assign(kind="clean", tp=0, fn=0, episode=counts["episode"] + 1000)
    assert interval(pd.concat([counts, clean]), draws=50) == interval(counts, draws=50)


@pytest.mark.parametrize("change", ["fewer", "other query", "twice", "none"])
def test_unpaired_tables_are_refused(change: str) -> None:
    champion = make_counts(queries=2)
    challenger = {
        "fewer": champion.iloc[1:],
        "other query": champion.assign(query=champion["query"] + "x"),
        "twice": pd.concat([champion, champion]),
        "none": champion.iloc[:0],
    }[change]
    with pytest.raises(PromotionError):
        paired_bootstrap(champion, challenger, draws=10)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(24)))
def test_order_of_rows_and_pixel_scale_do_not_matter(seed: int, order: list[int]) -> None:
    counts = make_counts(seed=seed, queries=2)
    shuffled = counts.iloc[order].reset_index(drop=True)
    scaled = counts.assign(**{name: counts[name] * 7 for name in ("tp", "fp", "fn", "tn")})
    expected = interval(counts, draws=40)
    assert interval(shuffled, draws=40) == pytest.approx(expected)
    assert interval(scaled, draws=40) == pytest.approx(expected)
    same = paired_bootstrap(counts, shuffled, draws=40)
    assert (same.gain, same.low, same.high) == pytest.approx((0, 0, 0))


def test_the_chance_of_a_gain_by_all_exchanges_of_few_images() -> None:
    """Three query images: eight ways to change places, each counted by hand."""
    first = make_counts(seed=3, queries=3)
    first = first[(first["split"] == first["split"].iloc[0]) & (first["cls"] == first["cls"].iloc[0])]
    second = first.assign(
        tp=first["tp"] + np.arange(len(first)) % 5, fn=(first["fn"] - np.arange(len(first)) % 5)
    )

    def iou(table: pd.DataFrame) -> float:
        tp, fp, fn = (table[name].sum() for name in ("tp", "fp", "fn"))
        return float(100 * tp / (tp + fp + fn))

    queries = sorted(first["query"].unique())
    gains = []
    for bits in itertools.product([False, True], repeat=len(queries)):
        swapped = first["query"].isin([q for q, bit in zip(queries, bits, strict=True) if bit])
        a, b = first.where(~swapped, second), second.where(~swapped, first)
        gains.append(iou(b) - iou(a))
    expected = np.mean([gain >= gains[0] - 1e-9 for gain in gains])
    assert chance_of_gain(first, second, 20_000) == pytest.approx(expected, abs=0.02)
    assert chance_of_gain(first, first, 500) == 1


def test_images_of_one_group_change_places_together() -> None:
    """No difference, but the images of a part err alike: p stays at its level, drawn by image it would not."""
    rng, level, groups, images = np.random.default_rng(0), 0.05, 10, 6
    names = [f"c/{i}" for i in range(groups * images)]
    parts = np.repeat([f"g{i}" for i in range(groups)], images)
    about = {"split": "fold0", "cls": "c", "query": names, "episode": range(len(names))}
    first = pd.DataFrame({**about, "tp": 500, "fp": 100, "fn": 500, "tn": 8900, "query_group": parts})
    plain = first.drop(columns="query_group")
    hits = {"query_group": 0, "query": 0}
    for _ in range(100):
        shift = np.repeat(rng.normal(0, 60, groups), images)
        moved = (shift + rng.normal(0, 20, len(names))).round()
        for by, table in (("query_group", first), ("query", plain)):
            second = table.assign(tp=table["tp"] + moved, fn=table["fn"] - moved)
            hits[by] += chance_of_gain(table, second, draws=200) <= level
    assert hits["query_group"] <= 12  # 5 % of 100 are 5; more than 12 come once in seven hundred times
    assert hits["query"] > 15


def test_another_image_size_is_no_gain() -> None:
    champion = make_counts(queries=4)
    larger = champion.assign(**{name: 4 * champion[name] for name in ("tp", "fp", "fn", "tn")})
    found = paired_bootstrap(champion, larger, draws=100)
    assert (found.gain, found.low, found.high) == pytest.approx((0, 0, 0))
    assert chance_of_gain(champion, larger, draws=100) == 1
