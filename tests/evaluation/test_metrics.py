"""Counts and scores against torchmetrics and by hand."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import BinaryJaccardIndex, BinaryStatScores

from lerenet.evaluation.metrics import COUNTS, class_iou, clean_scores, mean_of_both, miou, summed
from lerenet.evaluation.score import confusion


def frame(prediction: torch.Tensor, truth: torch.Tensor, classes: list[str]) -> pd.DataFrame:
    counts = pd.DataFrame(confusion(prediction, truth).numpy(), columns=COUNTS)
    counts["cls"] = classes
    return counts


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_scores_equal_torchmetrics(seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.rand(6, 9, 7, generator=generator) < share
    truth = torch.rand(6, 9, 7, generator=generator) < 0.4
    counts = frame(prediction, truth, ["a", "a", "a", "b", "b", "b"])
    tp, fp, tn, fn, _ = BinaryStatScores()(prediction.int(), truth.int()).tolist()
    assert counts[COUNTS].sum().tolist() == [tp, fp, fn, tn]
    iou = {
        c: 100 * float(BinaryJaccardIndex()(prediction[s].int(), truth[s].int()))
        for c, s in (("a", slice(3)), ("b", slice(3, 6)))
    }
    assert class_iou(counts) == pytest.approx(iou, abs=1e-3)
    assert miou(counts) == pytest.approx(sum(iou.values()) / 2, abs=1e-3)
    fore = float(BinaryJaccardIndex()(prediction.int(), truth.int()))
    back = float(BinaryJaccardIndex()((~prediction).int(), (~truth).int()))
    assert mean_of_both(summed(counts)) == pytest.approx(50 * (fore + back), abs=1e-3)


def test_a_class_iou_is_a_ratio_of_sums_not_a_mean_of_ratios() -> None:
    counts = pd.DataFrame({"cls": ["a", "a"], "tp": [1, 90], "fp": [9, 10], "fn": [0, 0], "tn": [90, 0]})
    assert class_iou(counts)["a"] == pytest.approx(100 * 91 / 110)


def test_clean_queries() -> None:
    counts = pd.DataFrame(
        {"cls": ["a"] * 4, "tp": 0, "fn": 0, "fp": [0, 0, 5, 15], "tn": [10, 10, 5, -5 + 10 - 10 + 5]}
    )
    found = clean_scores(counts)
    assert found == {"false_share": 20 / 45, "images_clean_share": 0.5, "n": 4}
