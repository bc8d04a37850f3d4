"""Each peer's head at the widths of ResNet50: parameters and operations beside those of its release.

Operations are counted as torch's flop counter does (2 for a multiply-add), 1-shot, 25 x 25 from layer 2 on,
without the backbone. Where ours differs from the release's measured count, the difference is named.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lerenet.models import configure, create_model
from tests.helpers.networks import PEERS, support_of

CHANNELS = {1: 256, 2: 512, 3: 1024, 4: 2048}
SIDES = {1: 50, 2: 25, 3: 25, 4: 25}
PARAMETERS = {  # of the releases, learnable
    "asgnet": 10_423_818,
    "bam": 4_917_281,  # with the weights of 5 shots
    "canet": 10_494_466 + 1_182_209,  # + the attention of K shots, which the release lacks
    "dcp": 11_343_108,
    "hdmnet": 4_161_734 + 27,  # with the weights of 5 shots
    "pfenet": 10_817_034,
    "tgrnet": 6_951_684 - 1,  # of its 7,608,068 the rest is never run; one scale for two
}
GFLOPS = {
    "asgnet": 6.67 + 0.19,  # products of the clustering, written without matrices in the release
    "bam": 32.03,
    "canet": (18.88 + 30.9) * 625 / 676,  # four refinements; the release's grid is 26 x 26
    "dcp": 18.48 - 2.87,  # the query's own guess is for the loss alone; the release computes it in tests, too
    "hdmnet": 53.59,
    "pfenet": 8.45,
    "tgrnet": 76.54,
}


@pytest.mark.parametrize("name", PEERS)
def test_parameters_and_operations_are_the_releases(name: str) -> None:
    head = create_model(configure(name), CHANNELS, 200).eval()
    learnable = sum(value.numel() for value in head.parameters() if value.requires_grad)
    assert learnable == PARAMETERS[name]
    shapes = [(CHANNELS[level], SIDES[level], SIDES[level]) for level in head.levels]
    support, query = [torch.rand(1, 1, *shape) for shape in shapes], [torch.rand(1, *s) for s in shapes]
    masks = torch.zeros(1, 1, 200, 200)
    masks[..., 40:90, 40:90] = 1
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        head.decode(head.encode(support_of(support, masks, {"masked": support, "normal": query})), query)
    assert counter.get_total_flops() / 1e9 == pytest.approx(GFLOPS[name], rel=0.01)
