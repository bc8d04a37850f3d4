"""Vision transformers (DINOv2, DINOv3 and timm's other ``vit_*``) as backbones with levels.

All places of a transformer have one size, so level i is what stands after i quarters of its blocks, through
the network's last norm. The image is enlarged until a patch covers 8 of its pixels: 25 x 25 places of a
200 x 200 image, as fine as level 2 of a convolutional backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

QUARTERS = (1, 2, 3, 4)  # the levels
STRIDE = 8  # pixels of the image given, for each place


class ViTLevels(nn.Module):
    """Features after some quarters of a timm vision transformer, with no block deeper than the last.

    Args:
        name: timm's name.
        levels: some of `QUARTERS`, ascending.
    """

    def __init__(self, name: str, levels: Sequence[int]) -> None:
        super().__init__()
        import timm

        model: Any = timm.create_model(name, dynamic_img_size=True, num_classes=0)
        self.taps = [len(model.blocks) * level // 4 - 1 for level in levels]
        model.prune_intermediate_layers(self.taps, prune_norm=False, prune_head=True)
        self.model, self.pretrained = model, model.pretrained_cfg
        self.width: int = model.num_features
        self.patch: int = model.patch_embed.patch_size[0]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> one (N, width, H / 8, W / 8) a level; sides that 8 does not divide are rounded up."""
        height, width = (-(-side // STRIDE) * self.patch for side in images.shape[-2:])
        enlarged = F.interpolate(images, (height, width), mode="bilinear", align_corners=False)
        model: Any = self.model
        maps: list[Tensor] = model.forward_intermediates(
            enlarged, indices=self.taps, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps
