"""What a recipe may tune in a peer: the source of its prior, and the scale of its features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lerenet.models import configure, create_model
from lerenet.models.batch import EpisodeBatch, Support
from lerenet.models.peers.parts import side_by_side, unit_deviation
from lerenet.models.peers.similar import STRENGTH, Similar, centred_prior
from lerenet.models.segmenter import Segmenter
from tests.helpers.equations import array, close, rand

CHANNELS, SIZE = {1: 4, 2: 6, 3: 8, 4: 10}, 40
PEERS = ("asgnet", "bam", "canet", "dcp", "hdmnet", "pfenet", "tgrnet")
WITH_PRIOR = ("bam", "dcp", "hdmnet", "pfenet")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def peer(name: str, **settings: object) -> Segmenter:
    """With weights that let the features through (CANet's start at a hundredth)."""
    torch.manual_seed(0)
    head = create_model(configure(name, width=8, side=9, **settings), CHANNELS, SIZE).eval()
    for weight in head.parameters() if name == "canet" else ():
        torch.nn.init.normal_(weight, std=0.2)
    return head


def episode(head: Segmenter, factors: tuple[float, ...] = (1, 1, 1, 1), shots: int = 2) -> EpisodeBatch:
    """An episode of drawn features, level l times its factor; the defect fills a corner."""
    torch.manual_seed(1)
    sides = {1: 20, 2: 10, 3: 5, 4: 3}
    support, query, masked, normal = [], [], [], []
    for level in head.levels:
        shape = (CHANNELS[level], sides[level], sides[level])
        factor = factors[level - 1]
        support.append(torch.randn(2, shots, *shape) * factor)
        query.append(torch.randn(2, *shape) * factor)
        masked.append(torch.randn(2, shots, *shape) * factor)
        normal.append(torch.randn(2, *shape) * factor)
    masks = torch.zeros(2, shots, SIZE, SIZE)
    masks[:, :, :18, :22] = 1
    return EpisodeBatch(Support(support, masks, masked, normal), query)


def test_the_centred_prior_by_hand() -> None:
    query, support = rand(2, 6, 3, 4), rand(2, 3, 6, 3, 4)
    shares = torch.zeros(2, 3, 3, 4, dtype=torch.float64)
    shares[0, :, 0, :2], shares[1, :, 1:, 3] = 0.9, 0.6
    shares[1, 2] = 0
    shares[1, 2, 2, 2] = 0.1  # thin: the cell with the most of it
    found = centred_prior(query, support, shares)
    for b in range(2):
        maps = []
        for k in range(3):
            q, s = array(query[b]).reshape(6, 12), array(support[b, k]).reshape(6, 12)
            mean = np.concatenate([q, s], axis=1).mean(1, keepdims=True)
            q, s = q - mean, s - mean
            m = array(shares[b, k]).reshape(12)
            s = s[:, m > 0.5] if (m > 0.5).any() else s[:, m == m.max()]
            cosines = (q.T @ s) / np.linalg.norm(q, axis=0)[:, None] / np.linalg.norm(s, axis=0)
            maps.append(cosines.max(1).reshape(3, 4))
        close(found[b, 0], np.mean(maps, axis=0))
    assert not found.requires_grad


def test_the_centred_prior_is_of_the_last_level_but_one_and_five_times_its_cosine() -> None:
    head = peer("pfenet", prior="centred")
    batch = episode(head)
    similar = Similar("centred", 5)
    kept = similar.keep(batch.support)
    expected = centred_prior(batch.query[1], batch.support.levels[1], kept["inside"])
    torch.testing.assert_close(similar(kept, batch.query), STRENGTH * expected)
    torch.testing.assert_close(similar.each(kept, batch.query).mean(1, keepdim=True), STRENGTH * expected)


@pytest.mark.parametrize("source", ["highest", "centred"])
def test_one_state_serves_many_queries(source: str) -> None:
    head = peer("bam", prior=source)
    batch = episode(head)
    support = Support(*[[x[:1] for x in part] for part in (batch.support.levels,)], batch.support.masks[:1])
    state = head.encode(support)
    both = head.decode(state, batch.query)
    one = torch.cat([head.decode(state, [level[i : i + 1] for level in batch.query]) for i in range(2)])
    torch.testing.assert_close(both, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WITH_PRIOR)
@torch.inference_mode()
def test_a_recipe_chooses_the_priors_source(name: str) -> None:
    released, centred = peer(name), peer(name, prior="centred")
    batch = episode(released)
    assert not torch.allclose(released(batch), centred(batch))
    assert torch.equal(peer(name, prior="highest")(batch), released(batch))


@pytest.mark.parametrize("name", PEERS)
@torch.inference_mode()
def test_scaled_features_make_a_peer_blind_to_the_backbones_scale(name: str) -> None:
    factors = (7.0, 3.0, 0.2, 1.0)  # of level 4 too, the frozen base learner knows the scale
    head = peer(name, scaled=True)
    torch.testing.assert_close(head(episode(head)), head(episode(head, factors)), rtol=1e-3, atol=1e-4)
    if (
        name == "hdmnet"
    ):  # its encoder norms what it is given: untrained it is nearly blind to the scale by itself
        return
    released = peer(name)
    ours, theirs = released(episode(released)), released(episode(released, factors))
    assert not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_flat_map_stays_and_any_other_gets_deviation_one() -> None:
    level = torch.stack([torch.full((3, 4, 4), 2.0), torch.randn(3, 4, 4) * 9 + 5])
    found = unit_deviation(level)
    assert torch.equal(found[0], level[0])
    assert found[1].std(correction=0).item() == pytest.approx(1, rel=1e-5)
    joined = side_by_side([level, level * 4], 4, scaled=True)
    torch.testing.assert_close(joined[1, :3], joined[1, 3:])


def test_a_network_without_a_prior_refuses_the_setting() -> None:
    with pytest.raises(Exception, match="prior"):
        configure("canet", prior="centred")
