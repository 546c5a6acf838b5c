"""DenseNet: G. Huang et al., *Densely connected convolutional networks*, CVPR 2017."""

from __future__ import annotations

import torch
from torch import nn

from networks.blocks import Add, Concat, Flat, convolution

GROWTH = 32


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, 1x1, BatchNorm, ReLU, 3x3; the new channels are put behind the old ones."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), *convolution(channels, 4 * GROWTH, 1),
            nn.ReLU(), nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False),
        )  # fmt: skip
        self.concat = Concat()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.concat(x, self.branch(x))


def densenet121(size: int, add: Add) -> nn.Sequential:  # noqa: ARG001
    """Blocks of 6, 12, 24 and 16 dense layers, transitions that halve channels and size between them."""
    channels = 64
    layers: list[nn.Module] = [*convolution(3, channels, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    for block, count in enumerate((6, 12, 24, 16)):
        if block:
            half = channels // 2
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, half, 1, bias=False), nn.AvgPool2d(2)]
            channels = half
        layers += [DenseLayer(channels + GROWTH * position) for position in range(count)]
        channels += GROWTH * count
    classifier = nn.Sequential(nn.Linear(channels, 1000))
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)), Flat(classifier))
