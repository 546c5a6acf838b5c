"""SqueezeNet: F. N. Iandola et al., *SqueezeNet: AlexNet-level accuracy with 50x fewer parameters*, 2016."""

from __future__ import annotations

import torch
from torch import nn

from networks.blocks import Add, Concat, Flattened


class Fire(nn.Module):
    """1x1 that narrows, then 1x1 and 3x3 beside each other."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(channels, squeezed, 1), nn.ReLU())
        self.small = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
        self.large = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())
        self.concat = Concat()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        squeezed = self.squeeze(x)
        return self.concat(self.small(squeezed), self.large(squeezed))


def squeezenet(size: int, add: Add) -> nn.Module:  # noqa: ARG001
    """Version 1.1, which pools earlier."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return Flattened(
        nn.Sequential(
            nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(),
            Fire(64, 16, 64), Fire(128, 16, 64), pool(),
            Fire(128, 32, 128), Fire(256, 32, 128), pool(),
            Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
            nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)),
        )
    )  # fmt: skip
