"""CANet (CVPR 2019): dense comparison with a prototype, then refinement of its own prediction.

The query is compared with the support's prototype at every place; the last prediction goes back in as a
history and is refined. Here: the backbone is not dilated by default, so both levels are brought to one grid; in
training the history is the head's own first pass (in three of ten steps, without gradient) instead of a
prediction stored at the sample's last visit; at inference there are always four refinements, where the
released code stops at the best test score. K shots: attention over the K comparisons, our own reading of
the paper, the release being 1-shot only.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lerenet.models.batch import Support, TrainingBatch
from lerenet.models.config import register
from lerenet.models.descriptors import full
from lerenet.models.peers.parts import (
    ASPP,
    WIDTH,
    after_aspp,
    difference,
    masked_average,
    side_by_side,
    tile,
)
from lerenet.models.peers.similar import PeerConfig
from lerenet.models.segmenter import Loss, Segmenter, State, expand, masks_to_grid

REFINEMENTS = 4  # at inference, after the first pass
RECALLED = 0.3  # share of training steps with a history
SPREAD = 0.01  # of new convolutions


def comparison(inputs: int, width: int, dropout: float) -> nn.Sequential:
    """3 x 3 with dilation 2 and bias, ReLU, spatial dropout."""
    conv = nn.Conv2d(inputs, width, 3, padding=2, dilation=2)
    return nn.Sequential(conv, nn.ReLU(), nn.Dropout2d(dropout))


def refinement(inputs: int, width: int) -> nn.Sequential:
    """ReLU, 3 x 3, ReLU, 3 x 3: the branch of a residual block."""
    convs = [nn.Conv2d(size, width, 3, padding=1) for size in (inputs, width)]
    return nn.Sequential(nn.ReLU(), convs[0], nn.ReLU(), convs[1])


@register("canet", PeerConfig)
class CANet(Segmenter):
    """Levels 2 and 3 are compared; the last prediction's softmax is the history."""

    def __init__(self, config: PeerConfig, channels: Mapping[int, int], image_size: int) -> None:
        super().__init__(channels, config.levels or (2, 3), image_size)
        self.side, width, self.scaled = config.side or 25, config.width or WIDTH, config.scaled
        dropout = 0.5 if config.dropout is None else config.dropout
        self.reduce = comparison(sum(self.channels), width, dropout)
        self.compare = comparison(2 * width, width, dropout)
        self.attend = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1), nn.MaxPool2d(3), nn.Conv2d(width, 1, 3, padding=1)
        )
        self.residual = nn.ModuleList(refinement(size, width) for size in (width + 2, width, width))
        self.aspp = ASPP(width, width, dropout)
        self.join = after_aspp(width, dropout)
        self.classify = nn.Conv2d(width, 2, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=SPREAD)

    def encode(self, support: Support) -> State:
        """The K shots' prototypes, (B, K, c)."""
        masks = support.masks
        shares = masks_to_grid(masks, self.side, "bilinear").to(support.levels[0].dtype).flatten(0, 1)
        middle = self._middle([level.flatten(0, 1) for level in support.levels])
        return {"prototypes": masked_average(middle, shares).unflatten(0, masks.shape[:2])}

    def decode(self, state: State, query: list[Tensor]) -> Tensor:
        """State and query features (B, c, h, w) a level -> logits (B, image_size, image_size)."""
        compared = self._compared(state, query)
        two = self._pass(compared, None)
        for _ in range(REFINEMENTS):
            two = self._pass(compared, two)
        return self.enlarge(difference(two))

    def learn(self, batch: TrainingBatch, loss: Loss) -> Tensor:
        """Loss of one pass, its history being zeros or, in three steps of ten, the first pass."""
        compared = self._compared(self.encode(batch.support), batch.query)
        history = None
        if float(torch.rand(())) < RECALLED:
            with torch.no_grad():
                history = self._pass(compared, None)
        return loss(self.enlarge(difference(self._pass(compared, history))), batch.truth)

    def _middle(self, levels: list[Tensor]) -> Tensor:
        joined: Tensor = self.reduce(side_by_side(levels, self.side, self.scaled))
        return joined

    def _compared(self, state: State, query: list[Tensor]) -> Tensor:
        """The query beside each of the K prototypes, compared, weighted: (B, c, side, side)."""
        x = self._middle(query)  # (B, c, h, w)
        prototypes = expand(state["prototypes"], len(x))  # (B, K, c)
        shots = prototypes.shape[1]
        wide = x.repeat_interleave(shots, dim=0)
        joined = torch.cat([wide, tile(prototypes.flatten(0, 1), wide)], dim=1)  # (B K, 2 c, h, w)
        compared: Tensor = self.compare(joined).unflatten(0, (-1, shots))
        if shots == 1:
            return compared[:, 0]
        weights = self.attend(joined).mean((1, 2, 3)).unflatten(0, (-1, shots)).softmax(1)  # (B, K)
        weighted: Tensor = (compared * weights[:, :, None, None, None]).sum(1)
        return weighted

    def _pass(self, compared: Tensor, last: Tensor | None) -> Tensor:
        """One pass over what was compared, with the last two-channel output or none: (B, 2, side, side)."""
        shape = (len(compared), 2, *compared.shape[2:])
        history = compared.new_zeros(shape) if last is None else full(last).softmax(1).to(compared.dtype)
        x = compared + self.residual[0](torch.cat([compared, history], dim=1))
        for branch in self.residual[1:]:
            x = x + branch(x)
        two: Tensor = self.classify(self.join(self.aspp(x)))
        return two
