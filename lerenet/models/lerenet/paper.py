"""LERENet as the paper writes it: MPR (local view), MPE* (global view), IFM. Presets `paper`, `authors`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lerenet.models.batch import Support
from lerenet.models.config import register
from lerenet.models.descriptors import aligned_cosine, channel_cosine, relate
from lerenet.models.lerenet.ifm import IFM
from lerenet.models.lerenet.mpe import MPE, prototype
from lerenet.models.lerenet.mpr import MPR
from lerenet.models.lerenet.settings import BaselineConfig, LERENetConfig
from lerenet.models.segmenter import Segmenter, State, expand, masks_to_grid, shots_to_grid, to_grid

DROPOUT = 0.1  # before the last convolution


class ChannelHead(Segmenter):
    """What LERENet and Baseline share: X_q and masked X_s of c channels on one grid.

    `paper`: levels 2 and 3 joined, 1 x 1 to 256, ReLU, grid 25. `authors`: level 1 as it is, grid 50.
    """

    def __init__(
        self, config: LERENetConfig | BaselineConfig, channels: Mapping[int, int], image_size: int
    ) -> None:
        levels = config.levels or ((1,) if config.preset == "authors" else (2, 3))
        super().__init__(channels, levels, image_size)
        self.authors = config.preset == "authors"
        self.side = config.side or (50 if self.authors else 25)
        given = sum(self.channels)
        self.width = config.width or (given if self.authors else 256)
        self.dropout = DROPOUT if config.dropout is None else config.dropout
        keep = self.authors and given == self.width
        self.reduce = nn.Identity() if keep else nn.Sequential(nn.Conv2d(given, self.width, 1), nn.ReLU())

    def project(self, levels: list[Tensor]) -> Tensor:
        """Levels (N, c_i, side, side) -> X (N, c, side, side)."""
        joined: Tensor = self.reduce(torch.cat(levels, dim=1))
        return joined

    def masked_support(self, support: Support) -> tuple[Tensor, Tensor]:
        """Eq. 16: each shot under its own mask, then the mean.

        Returns:
            X_s (B, c, side, side), and the mean area of the masks on the grid, (B,).
        """
        batch = support.masks.shape[:2]
        levels = [to_grid(level.flatten(0, 1), self.side) for level in support.levels]
        features = self.project(levels).unflatten(0, batch)  # (B, K, c, h, w)
        shares = masks_to_grid(
            support.masks, self.side, "bilinear" if self.authors else "area"
        )  # (B, K, h, w)
        mean = (features * shares[:, :, None].to(features.dtype)).mean(1)
        return mean, shares.sum((2, 3)).mean(1)

    def query_map(self, query: list[Tensor]) -> Tensor:
        """X_q (B, c, side, side)."""
        return self.project([to_grid(level, self.side) for level in query])


class PaperLERENet(ChannelHead):
    """Eq. 7 to 16, with the switches of Table 3: ``mpr``, ``mpe`` and ``edge`` (MPE* is MPE with edge)."""

    def __init__(self, config: LERENetConfig, channels: Mapping[int, int], image_size: int) -> None:
        super().__init__(config, channels, image_size)
        self.concat = config.shot_fusion == "concat"
        self.mpr = MPR(self.width, self.authors) if config.mpr else None
        self.mpe = MPE(self.width) if config.mpe else None
        form = config.edge_form or ("aligned" if self.authors else "descriptor")
        self.edge = form if config.edge and config.mpe else ""  # the form of D_cos
        parts = self.width * (int(config.mpr) + int(config.mpe) or 2)
        maps = {"": 0, "aligned": 1, "descriptor": 2, "channel": self.width}[self.edge]
        pairs = 1 if self.authors else 2
        self.ifm = IFM(
            parts + maps,
            self.width,
            pairs,
            self.dropout,
            authors=self.authors,
        )

    def encode(self, support: Support) -> State:
        """P_s^v, P_s^d, X_proj and the descriptors that D_cos compares with."""
        masked, area = self.masked_support(support)
        state: State = {"masked": masked.flatten(2)}  # X_s, (B, c, l)
        if self.mpr is not None:
            state["s_v"], state["s_d"] = self.mpr.encode(state["masked"])
        if self.mpe is not None:
            state["proj"] = prototype(state["masked"], None if self.authors else area)
        if self.edge == "descriptor":
            frozen = torch.cat([shots_to_grid(level, self.side) for level in support.levels], dim=2)
            state["frozen"] = frozen.flatten(3).detach()  # (B, K, c, l)
            state["shares"] = masks_to_grid(support.masks, self.side).flatten(2)  # (B, K, l)
        return state

    def _edge(self, state: State, query: list[Tensor], x_q: Tensor) -> Tensor:
        """D_cos in its form: `descriptor` (B, 2, h, w), `channel` (B, c, h, w) or `aligned` (B, 1, h, w)."""
        batch, flat = len(x_q), x_q.flatten(2)  # X_q, (B, c, l)
        if self.edge == "descriptor":
            own = torch.cat([to_grid(level, self.side) for level in query], dim=1).flatten(2).detach()
            frozen, shares = expand(state["frozen"], batch), expand(state["shares"], batch)
            maps = relate(own, frozen, shares, self.concat)[0][:, :2]  # (B, 2, l)
        elif self.edge == "channel":
            maps = torch.bmm(channel_cosine(flat, expand(state["masked"], batch)).to(flat.dtype), flat)
        else:
            maps = aligned_cosine(flat, expand(state["masked"], batch))
        on_grid: Tensor = maps.unflatten(2, x_q.shape[2:])
        return on_grid

    def decode(self, state: State, query: list[Tensor]) -> Tensor:
        """P_main, P_aux and their fusion (eq. 11 to 15)."""
        x_q = self.query_map(query)
        batch, parts = len(x_q), []
        if self.mpr is not None:
            parts.append(self.mpr((expand(state["s_v"], batch), expand(state["s_d"], batch)), x_q))  # P_main
        if self.mpe is not None:
            parts.append(self.mpe(expand(state["proj"], batch), x_q))  # P_e
        if self.edge:
            parts.append(self._edge(state, query, x_q).to(x_q.dtype))  # with P_e: P_aux
        masked = expand(state["masked"], batch).unflatten(2, x_q.shape[2:])
        return self.enlarge(self.ifm(parts or [x_q, masked]))  # all switches off: the Baseline's inputs


@register("baseline", BaselineConfig)
class Baseline(ChannelHead):
    """Section 5.1: X_q and masked X_s joined, residual module, head; no MPR, MPE or IFM."""

    def __init__(self, config: BaselineConfig, channels: Mapping[int, int], image_size: int) -> None:
        super().__init__(config, channels, image_size)
        self.body = IFM(
            2 * self.width,
            self.width,
            1,
            self.dropout,
            authors=self.authors,
        )

    def encode(self, support: Support) -> State:
        """Masked X_s, (B, c, h, w)."""
        return {"masked": self.masked_support(support)[0]}

    def decode(self, state: State, query: list[Tensor]) -> Tensor:
        """[X_q, X_s] -> logits."""
        x_q = self.query_map(query)
        return self.enlarge(self.body([x_q, expand(state["masked"], len(x_q))]))
