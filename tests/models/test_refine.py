"""What the query's own tones tell, against a few lines of numpy in double precision; where they are asked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lerenet.cells import View
from lerenet.evaluation.score import predict_batch
from lerenet.features.relations import RelationCache
from lerenet.models import configure, create_model
from lerenet.models.backbones.factory import create_backbone
from lerenet.models.batch import assemble
from lerenet.models.network import Network
from lerenet.models.refine import AROUND, BINS, FINE, PRIOR, WEIGHT, follow_edges, refine, tone_evidence
from tests.helpers.pictures import CPU, Pictures, head


def _defined(marked: NDArray[np.bool_], grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixel by pixel, as the docstring of `tone_evidence` has it; a tone between two bins counts in both."""
    reach, tone = len(grey) // AROUND, np.zeros_like(grey)
    for row, column in np.ndindex(*grey.shape):
        window = grey[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        tone[row, column] = grey[row, column] - window.mean()
    place = (tone - tone.min()) / (tone.max() - tone.min()) * (BINS - 1)
    bins = np.arange(BINS)
    inside, outside = np.zeros(BINS), np.zeros(BINS)
    for at in np.ndindex(*grey.shape):
        shares = np.interp(bins, [place[at] - 1, place[at], place[at] + 1], [0, 1, 0])
        (inside if marked[at] else outside)[:] += shares
    prior = PRIOR * (inside + outside)
    table = np.log((inside + prior) / (inside.sum() + prior.sum()))
    table -= np.log((outside + prior) / (outside.sum() + prior.sum()))
    return np.interp(place, bins, table)


def test_the_evidence_is_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, 24, 24, generator=generator, dtype=torch.float64)
    marked = torch.rand(2, 24, 24, generator=generator) < torch.tensor([0.3, 0.02])[:, None, None]
    expected = [_defined(*pair) for pair in zip(marked.numpy(), pictures.mean(1).numpy(), strict=True)]
    found = tone_evidence(marked, pictures)
    np.testing.assert_allclose(found.numpy(), np.stack(expected), rtol=0, atol=1e-9)
    single = tone_evidence(marked, pictures.float())
    assert (single - found).abs().max() < 1e-3


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.05, 0.9))
def test_swapping_sides_turns_the_evidence_round(seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.rand(1, 3, 16, 16, generator=generator, dtype=torch.float64)
    marked = torch.rand(1, 16, 16, generator=generator) < share
    torch.testing.assert_close(tone_evidence(~marked, pictures), -tone_evidence(marked, pictures))


@pytest.mark.parametrize("value", [True, False])
def test_nothing_or_all_marked_and_a_flat_picture_are_no_evidence(value: bool) -> None:
    pictures = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    one_sided = tone_evidence(torch.full((1, 16, 16), value), pictures)
    torch.testing.assert_close(one_sided, torch.zeros(1, 16, 16), rtol=0, atol=1e-5)
    marked = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(1)) > 0.5
    flat = tone_evidence(marked, torch.full((1, 3, 16, 16), 0.5))
    torch.testing.assert_close(flat, torch.zeros(1, 16, 16), rtol=0, atol=1e-5)


def test_a_dark_scratch_of_which_half_was_found_is_found() -> None:
    picture = torch.full((1, 3, 64, 64), 0.6) + 0.02 * torch.rand(
        1, 3, 64, 64, generator=torch.Generator().manual_seed(0)
    )
    picture[:, :, 30:33, 8:56] = 0.2
    logits = torch.full((1, 64, 64), -1.0)
    logits[:, 27:36, 8:36] = 1.0  # coarse, and only its left part
    logits[:, 27:36, 36:56] = -0.3
    edged, found = follow_edges(logits, picture) > 0, refine(logits, picture) > 0
    assert not edged[0, 31, 44:54].any()
    assert torch.equal(found[0], picture[0, 0] < 0.3)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 100.0))
def test_the_scale_of_the_logits_does_not_matter(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, 16, 16, generator=generator, dtype=torch.float64)
    logits = torch.randn(2, 16, 16, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(refine(scale * logits, pictures), scale * refine(logits, pictures))


def test_refining_is_edges_then_tones_then_edges() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, 16, 16, generator=generator)
    logits = torch.randn(2, 16, 16, generator=generator)
    edged = follow_edges(logits, pictures)
    told = [
        one + WEIGHT * float(one.abs().mean()) * tone_evidence(one[None] > 0, picture[None])[0]
        for one, picture in zip(edged, pictures, strict=True)
    ]
    torch.testing.assert_close(refine(logits, pictures), follow_edges(torch.stack(told), pictures, FINE))


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    ("changes", "refined"), [({}, True), ({"edge": False}, False), ({"mpe": False}, False)]
)
def test_scoring_refines_where_the_head_has_edge_information(
    changes: dict[str, object], refined: bool, kept: bool
) -> None:
    source, model = Pictures(), head(**changes)
    rows = pd.DataFrame({"support": [["a"], ["c"]], "query": ["b", "a"]})
    queries: list[View] = [("b", 0), ("a", 0)]
    episodes = assemble(source, [[("a", 0)], [("c", 0)]], queries, model, CPU)
    plain = model(episodes).detach()
    expected = refine(plain, source.pictures(queries)) if refined else plain
    relations = RelationCache(model, source, CPU, "fp32") if kept else None
    found = predict_batch(model, source, rows, CPU, "fp32", relations)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert refined == (not torch.allclose(found, plain, atol=0.1))


def test_a_prediction_from_pictures_is_refined_too() -> None:
    backbone = create_backbone("resnet18", "random", (1, 2))
    config = configure(levels=(1, 2), side=8)
    network = Network(backbone, create_model(config, dict(zip((1, 2), backbone.channels, strict=True)), 64))
    support, queries = torch.rand(1, 1, 3, 64, 64), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        state = network.eval().enrol(support, (torch.rand(1, 1, 64, 64) > 0.7).float())
        found = network.segment(state, queries)
        network.head.refined = False
        plain = network.segment(state, queries)
    torch.testing.assert_close(found, refine(plain, queries))
