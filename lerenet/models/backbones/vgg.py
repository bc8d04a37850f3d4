"""VGG16 as the paper reads it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

VGGS = ("vgg16", "vgg16_bn")
VGG_LAYERS = (2, 2, 3, 3, 3)  # convolutions of each block
VGG_CHANNELS = (64, 128, 256, 512, 512)  # of each block, and of each level


class VGGLevels(nn.Module):
    """VGG16's convolutions, tapped where this file's head says; the same tensor names as timm's."""

    def __init__(self, levels: Sequence[int], norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, taps = 3, []
        for block, (count, width) in enumerate(zip(VGG_LAYERS, VGG_CHANNELS, strict=True)):
            for _ in range(count):
                layers.append(nn.Conv2d(before, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width)] if norm else []
                layers.append(nn.ReLU(inplace=True))
                before = width
            layers.append(nn.MaxPool2d(2))
            taps.append(len(layers) - (block > 2))
        self.taps = [taps[level] for level in levels]
        self.features = nn.Sequential(*layers[: max(self.taps)])
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> the tapped maps."""
        maps = []
        for i, layer in enumerate(self.features, start=1):
            x = layer(x)
            if i in self.taps:
                maps.append(x)
        return maps
